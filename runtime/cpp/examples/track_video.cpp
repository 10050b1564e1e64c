// Tracks what a click on the first frame points at; writes an overlay video and one line of run
// lengths a frame:  track_video BUNDLE VIDEO X Y OVERLAY.mp4 MASKS.jsonl
#include <fstream>
#include <iostream>
#include <opencv2/imgproc.hpp>
#include <opencv2/videoio.hpp>
#include <sam2rt/sam2rt.hpp>

int run(char** argv) {
  cv::VideoCapture video(argv[2]);
  cv::Mat frame;
  if (!video.read(frame)) throw sam2rt::FrameError(std::string("cannot read ") + argv[2]);
  cv::VideoWriter overlay(argv[5], cv::VideoWriter::fourcc('m', 'p', '4', 'v'),
                          video.get(cv::CAP_PROP_FPS), frame.size());
  std::ofstream lines(argv[6]);

  const auto session = sam2rt::open_session(sam2rt::Bundle::load(argv[1]));
  sam2rt::StreamTracker tracker(session);
  tracker.add_points(1, {{{std::stof(argv[3]), std::stof(argv[4])}}, {1}, {}});
  do {
    const auto& result = tracker.step(
        {frame.data, frame.cols, frame.rows, frame.step[0], sam2rt::PixelFormat::bgr});
    const float* logits = result.object(0);
    const auto rle = sam2rt::encode_rle(logits, result.height, result.width);
    std::string counts;  // a backslash has a meaning of its own in JSON
    for (const char c : rle.counts) counts += c == '\\' ? std::string("\\\\") : std::string(1, c);
    lines << "{\"frame\": " << result.frame_idx << ", \"score\": " << result.object_scores[0]
          << ", \"size\": [" << rle.height << ", " << rle.width << "], \"counts\": \"" << counts
          << "\"}\n";
    cv::Mat inside = cv::Mat(frame.size(), CV_32F, const_cast<float*>(logits)) > 0;
    frame.setTo(cv::Scalar(40, 200, 255), inside);
    overlay.write(frame);
  } while (video.read(frame));
  return 0;
}

int main(int argc, char** argv) {
  if (argc != 7) return 2;
  try {
    return run(argv);
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
