"""`rfcx-tf gather` from a clone, without installation."""

from clone import run_verb

if __name__ == "__main__":
    run_verb("gather")
