"""Labels by models, and rounds of them."""
