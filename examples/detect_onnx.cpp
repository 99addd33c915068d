// A Maskwatch model file in ONNX Runtime's C++ API.
//
//   detect_onnx model.onnx picture.ppm
//
// The picture has the network's size: docs/model-file.md, "Resize rules". Prints class id, score and x0, y0,
// x1, y1 in its pixels.
#include <onnxruntime_cxx_api.h>

#include <array>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

int main(int argc, char** argv) {
  if (argc != 3) return std::cerr << "detect_onnx model.onnx picture.ppm\n", 2;
  std::ifstream file(argv[2], std::ios::binary);
  std::string format;
  std::int64_t width = 0, height = 0, brightest = 0;
  file >> format >> width >> height >> brightest;
  file.get();
  std::vector<std::uint8_t> pixels(std::istreambuf_iterator<char>(file), {});
  if (format != "P6" || static_cast<std::int64_t>(pixels.size()) != width * height * 3)
    return std::cerr << argv[2] << ": no binary PPM of 8 bits\n", 2;

  Ort::Env env(ORT_LOGGING_LEVEL_ERROR, "maskwatch");
  Ort::Session session(env, argv[1], Ort::SessionOptions{});
  auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const std::array<std::int64_t, 4> shape{1, height, width, 3};
  auto images = Ort::Value::CreateTensor<std::uint8_t>(memory, pixels.data(), pixels.size(),
                                                       shape.data(), shape.size());
  // score_thresholds, iou_threshold and class_agnostic may follow; left out, the file's own count.
  const char* inputs[] = {"images"};
  const char* outputs[] = {"boxes", "scores", "classes", "num_detections"};
  auto found = session.Run(Ort::RunOptions{nullptr}, inputs, &images, 1, outputs, 4);
  const auto* boxes = found[0].GetTensorData<float>();
  const auto* scores = found[1].GetTensorData<float>();
  const auto* classes = found[2].GetTensorData<std::int64_t>();
  const auto count = found[3].GetTensorData<std::int64_t>()[0];
  for (std::int64_t row = 0; row < count; ++row)
    std::cout << classes[row] << ' ' << scores[row] << ' ' << boxes[4 * row] << ' ' << boxes[4 * row + 1]
              << ' ' << boxes[4 * row + 2] << ' ' << boxes[4 * row + 3] << '\n';
}
