// Scores WAV files with an exported model: C++, TensorFlow's own libraries, no Python.
//
//   score_wav exported/NAME/1 recording.wav ...
//
// prints a line for every recording and class: file, class, score, tab-separated. Compiled against
// the TensorFlow that pip installed (TF is its folder, `python -c "import tensorflow as tf;
// print(tf.sysconfig.get_lib())"`):
//
//   g++ -std=c++17 -O1 -DEIGEN_MAX_ALIGN_BYTES=64 -D_GLIBCXX_USE_CXX11_ABI=1 -I$TF/include
//       score_wav.cc -o score_wav -L$TF -Wl,-rpath,$TF
//       -l:libtensorflow_cc.so.2 -l:libtensorflow_framework.so.2

#include <cstdio>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "tensorflow/cc/saved_model/loader.h"
#include "tensorflow/core/framework/tensor.h"

using tensorflow::Tensor;

namespace {

// Calls a signature with one input, returns one output.
absl::Status Call(const tensorflow::SavedModelBundle& model, const std::string& signature,
                  const std::string& input_name, const Tensor& input,
                  const std::string& output_name, Tensor* output) {
  const auto& definition = model.GetSignatures().at(signature);
  std::vector<Tensor> outputs;
  const absl::Status status =
      model.GetSession()->Run({{definition.inputs().at(input_name).name(), input}},
                              {definition.outputs().at(output_name).name()}, {}, &outputs);
  if (status.ok()) *output = outputs[0];
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "Give a model's version folder and WAV files.\n";
    return 2;
  }
  tensorflow::SavedModelBundle model;
  absl::Status status = tensorflow::LoadSavedModel({}, {}, argv[1], {"serve"}, &model);
  Tensor names;
  if (status.ok()) {
    status = Call(model, "about", "samples", Tensor(tensorflow::int32{1}), "class_names", &names);
  }
  for (int i = 2; status.ok() && i < argc; ++i) {
    std::ifstream file(argv[i], std::ios::binary);
    if (!file) {
      std::cerr << argv[i] << " cannot be read.\n";
      return 2;
    }
    std::ostringstream bytes;
    bytes << file.rdbuf();
    Tensor scores;  // [1, classes]
    status = Call(model, "wav", "wav", Tensor(tensorflow::tstring(bytes.str())), "scores", &scores);
    for (int c = 0; status.ok() && c < names.NumElements(); ++c) {
      const std::string name = names.flat<tensorflow::tstring>()(c);
      std::printf("%s\t%s\t%.9g\n", argv[i], name.c_str(), scores.flat<float>()(c));
    }
  }
  if (!status.ok()) {
    std::cerr << status << "\n";
    return 1;
  }
  return 0;
}
