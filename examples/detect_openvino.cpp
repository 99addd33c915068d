// A model that `maskwatch export MODEL --to openvino` wrote, in OpenVINO's C++ API.
//
//   detect_openvino model.xml picture.ppm
//
// The picture has the network's size: docs/model-file.md, "Resize rules". Prints class id, score and x0, y0,
// x1, y1 in its pixels.
#include <openvino/openvino.hpp>

#include <cstdint>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

int main(int argc, char** argv) {
  if (argc != 3) return std::cerr << "detect_openvino model.xml picture.ppm\n", 2;
  std::ifstream file(argv[2], std::ios::binary);
  std::string format;
  std::size_t width = 0, height = 0, brightest = 0;
  file >> format >> width >> height >> brightest;
  file.get();
  std::vector<std::uint8_t> pixels(std::istreambuf_iterator<char>(file), {});
  if (format != "P6" || pixels.size() != width * height * 3)
    return std::cerr << argv[2] << ": no binary PPM of 8 bits\n", 2;

  ov::Core core;
  const auto model = core.read_model(argv[1]);
  // OpenVINO has no optional inputs; the model's own thresholds are in its metadata: "[0.5, 0.4, 0.3]".
  std::istringstream text(model->get_rt_info<std::string>("maskwatch", "thresholds"));
  std::vector<float> thresholds;
  for (float value; text.ignore() && text >> value;) thresholds.push_back(value);
  float iou_threshold = 0.6f;
  char class_agnostic = 1;

  // In bfloat16, which newer CPUs would take, boxes move by pixels.
  auto compiled = core.compile_model(model, "CPU", ov::hint::inference_precision(ov::element::f32));
  auto request = compiled.create_infer_request();
  request.set_tensor("images", {ov::element::u8, {1, height, width, 3}, pixels.data()});
  request.set_tensor("score_thresholds", {ov::element::f32, {thresholds.size()}, thresholds.data()});
  request.set_tensor("iou_threshold", {ov::element::f32, {1}, &iou_threshold});
  request.set_tensor("class_agnostic", {ov::element::boolean, {1}, &class_agnostic});
  request.infer();
  const auto* boxes = request.get_tensor("boxes").data<float>();
  const auto* scores = request.get_tensor("scores").data<float>();
  const auto* classes = request.get_tensor("classes").data<std::int64_t>();
  const auto count = request.get_tensor("num_detections").data<std::int64_t>()[0];
  for (std::int64_t row = 0; row < count; ++row)
    std::cout << classes[row] << ' ' << scores[row] << ' ' << boxes[4 * row] << ' ' << boxes[4 * row + 1]
              << ' ' << boxes[4 * row + 2] << ' ' << boxes[4 * row + 3] << '\n';
}
