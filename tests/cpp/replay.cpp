// Plays recorded cases against a bundle and compares everything recorded with them:
//   replay BUNDLE THREADS CASE_FOLDER...
#include <algorithm>

#include "support/case_files.hpp"
#include "support/sessions.hpp"
#include "video_core.hpp"

using nlohmann::json;

namespace {

sam2rt::PointPrompt point_prompt(const json& event) {
  sam2rt::PointPrompt prompt;
  for (const json& p : event.value("points", json::array())) prompt.points.push_back({p[0], p[1]});
  for (const json& label : event.value("labels", json::array())) prompt.labels.push_back(label);
  if (event.contains("box")) {
    const json& b = event["box"];
    prompt.box = sam2rt::Box{b[0], b[1], b[2], b[3]};
  }
  prompt.clear_old_points = event.value("clear_old_points", true);
  prompt.normalize_coords = event.value("normalize_coords", true);
  return prompt;
}

/// Frames of a raw file; they may have another size than the video they stand for.
class RawFrames final : public sam2rt::FrameSource {
 public:
  explicit RawFrames(const CaseFolder& folder)
      : pixels_(folder.array<std::uint8_t>("frames.bin")),
        count_(folder.json["num_frames"]),
        frame_height_(folder.json["frame_size"][0]),
        frame_width_(folder.json["frame_size"][1]),
        height_(folder.json["video_size"][0]),
        width_(folder.json["video_size"][1]) {}

  int num_frames() const override { return count_; }
  int width() const override { return width_; }
  int height() const override { return height_; }
  sam2rt::FrameView read(int index) override {
    const auto bytes = static_cast<std::size_t>(frame_height_) *
                       static_cast<std::size_t>(frame_width_) * 3;
    return {pixels_.data() + static_cast<std::size_t>(index) * bytes, frame_width_, frame_height_};
  }

 private:
  std::vector<std::uint8_t> pixels_;
  int count_, frame_height_, frame_width_, height_, width_;
};

void check_calls(const json& event, WatchedSession& session) {
  if (!event.contains("calls")) return;
  const json& expected = event["calls"];
  CHECK_EQ(session.calls.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CHECK_EQ(session.calls[i].multimask, expected[i]["multimask"].get<bool>());
    CHECK_EQ(session.calls[i].memories, expected[i]["memories"].get<std::int64_t>());
    CHECK_EQ(session.calls[i].pointers, expected[i]["pointers"].get<std::int64_t>());
  }
}

/// The recorded parts of a frame's result, from the public result and the objects' own outputs.
std::vector<float> part(const std::string& what, const sam2rt::FrameResult& result,
                        std::vector<sam2rt::VideoObject>& objects) {
  if (what == "video") return result.logits;
  const bool first = std::any_of(objects.begin(), objects.end(), [&](const auto& o) {
    return o.fresh.cond.contains(result.frame_idx);
  });
  std::vector<float> values;
  for (sam2rt::VideoObject& object : objects) {
    const sam2rt::FrameOutput& output = *object.result(result.frame_idx, first);
    if (what == "low_res") {
      values.insert(values.end(), output.mask_logits.begin(), output.mask_logits.end());
    } else if (what == "obj_ptr") {
      values.insert(values.end(), output.obj_ptr.begin(), output.obj_ptr.end());
    } else if (what == "obj_score") {
      values.push_back(output.object_score);
    } else {
      throw check::Failure("unknown expectation " + what);
    }
  }
  return values;
}

class VideoCase {
 public:
  VideoCase(const CaseFolder& folder, std::shared_ptr<sam2rt::Session> session)
      : folder_(folder),
        session_(std::make_shared<WatchedSession>(std::move(session))),
        core_(session_, std::make_shared<RawFrames>(folder), options(folder.json)) {}

  double play() {
    for (const json& event : folder_.json["events"]) {
      session_->calls.clear();
      play(event);
    }
    return worst_;
  }

 private:
  static sam2rt::VideoOptions options(const json& given) {
    sam2rt::VideoOptions options;
    options.fill_hole_area = given.value("fill_hole_area", 0);
    options.non_overlap_masks = given.value("non_overlap_masks", false);
    options.add_all_frames_to_correct_as_cond =
        given.value("add_all_frames_to_correct_as_cond", false);
    options.max_cond_frames_in_attn = given.value("max_cond_frames_in_attn", -1);
    return options;
  }

  void play(const json& event) {
    const std::string op = event["op"];
    if (op == "propagate") {
      sam2rt::PropagateOptions run;
      if (event.contains("start_frame_idx")) run.start_frame_idx = event["start_frame_idx"];
      if (event.contains("max_frame_num_to_track")) {
        run.max_frame_num_to_track = event["max_frame_num_to_track"];
      }
      run.reverse = reverse_ = event.value("reverse", false);
      core_.preflight();
      range_ = core_.order(run);
    } else if (op == "frame") {
      CHECK(range_.left > 0);
      compare_all(event, core_.track(range_.next, reverse_));
      range_.next += range_.step;
      --range_.left;
    } else if (op == "end") {
      CHECK_EQ(range_.left, 0);
    } else if (op == "add_points") {
      compare_all(event, core_.add_points(event["frame"], event["obj_id"], point_prompt(event)));
    } else if (op == "add_mask") {
      const auto mask = folder_.array<std::uint8_t>(event["mask"]);
      const auto size = core_.size();
      compare_all(event, core_.add_mask(event["frame"], event["obj_id"],
                                        {mask.data(), size.width, size.height}));
    } else if (op == "remove_object") {
      compare_removal(event, core_.remove_object(event["obj_id"], false));
    } else {
      throw check::Failure("unknown event " + op);
    }
  }

  void compare_all(const json& event, const sam2rt::FrameResult& result) {
    CHECK_EQ(result.frame_idx, event["frame"].get<int>());
    CHECK(result.obj_ids == event["obj_ids"].get<std::vector<std::int64_t>>());
    for (const json& expected : event["expect"]) {
      const std::string what = expected["what"];
      const auto values = part(what, result, core_.objects());
      worst_ = std::max(worst_, compare(folder_, expected, values, height(), width()));
    }
    check_calls(event, *session_);
  }

  void compare_removal(const json& event, const sam2rt::Removal& removal) {
    CHECK(removal.obj_ids == event["obj_ids"].get<std::vector<std::int64_t>>());
    CHECK_EQ(removal.updated.size(), event["updated_frames"].size());
    for (std::size_t i = 0; i < removal.updated.size(); ++i) {
      CHECK_EQ(removal.updated[i].frame_idx, event["updated_frames"][i].get<int>());
      for (const json& expected : event["expect"][i]) {
        compare(folder_, expected, removal.updated[i].logits, height(), width());
      }
    }
  }

  std::size_t height() const { return static_cast<std::size_t>(core_.size().height); }
  std::size_t width() const { return static_cast<std::size_t>(core_.size().width); }

  const CaseFolder& folder_;
  std::shared_ptr<WatchedSession> session_;
  sam2rt::VideoCore core_;
  sam2rt::FrameRange range_;
  bool reverse_ = false;
  double worst_ = 0;
};

double play_stream(const CaseFolder& folder, const std::shared_ptr<sam2rt::Session>& session) {
  sam2rt::StreamOptions options;
  options.fill_hole_area = folder.json.value("fill_hole_area", 0);
  sam2rt::StreamTracker tracker(session, options);
  RawFrames frames(folder);
  for (const json& event : folder.json["events"]) {
    if (event["op"] == "add_points") {
      tracker.add_points(event["obj_id"], point_prompt(event));
      continue;
    }
    const auto& result = tracker.step(frames.read(event["frame"]));
    CHECK(result.obj_ids == event["obj_ids"].get<std::vector<std::int64_t>>());
    for (const json& expected : event["expect"]) {
      const std::string what = expected["what"];
      compare(folder, expected, what == "video" ? result.logits : result.object_scores);
    }
  }
  return 0.0;
}

double play_image(const CaseFolder& folder, const std::shared_ptr<sam2rt::Session>& session) {
  sam2rt::ImagePredictor predictor(session);
  RawFrames image(folder);
  predictor.set_image(image.read(0));
  double worst = 0;
  for (const json& event : folder.json["cases"]) {
    std::vector<sam2rt::ImagePrompt> prompts;
    for (const json& given : event["prompts"]) {
      const auto common = point_prompt(given);
      sam2rt::ImagePrompt prompt{common.points, common.labels, common.box, {}};
      if (given.contains("mask_input")) {
        prompt.mask_input = folder.array<float>(given["mask_input"]);
      }
      prompts.push_back(std::move(prompt));
    }
    sam2rt::PredictOptions options;
    options.multimask_output = event["multimask_output"];
    options.normalize_coords = event["normalize_coords"];
    const auto masks = predictor.predict(prompts, options);
    options.return_logits = true;
    const auto result = predictor.predict(prompts, options);
    CHECK_EQ(masks.masks.size(), result.logits.size());
    for (std::size_t i = 0; i < masks.masks.size(); ++i) {
      CHECK_EQ(masks.masks[i] != 0, result.logits[i] > 0);
    }
    for (const json& expected : event["expect"]) {
      const std::string what = expected["what"];
      const bool low = what == "low_res";
      const auto& values = low ? result.low_res : what == "iou" ? result.ious : result.logits;
      const auto height = static_cast<std::size_t>(result.height);
      worst = std::max(worst, compare(folder, expected, values, height,
                                      static_cast<std::size_t>(result.width)));
    }
  }
  return worst;
}

/// Images of different sizes set together; each has prompts of its own.
double play_batch(const CaseFolder& folder, const std::shared_ptr<sam2rt::Session>& session) {
  sam2rt::ImagePredictor predictor(session);
  std::vector<std::vector<std::uint8_t>> pixels;
  std::vector<sam2rt::FrameView> images;
  std::vector<std::vector<sam2rt::ImagePrompt>> prompts;
  for (const json& item : folder.json["images"]) {
    pixels.push_back(folder.array<std::uint8_t>(item["file"]));
    images.push_back({pixels.back().data(), item["width"], item["height"]});
    prompts.emplace_back();
    for (const json& given : item["prompts"]) {
      const auto common = point_prompt(given);
      prompts.back().push_back({common.points, common.labels, common.box, {}});
    }
  }
  predictor.set_image_batch(images);
  sam2rt::PredictOptions options;
  options.return_logits = true;
  const auto results = predictor.predict_batch(prompts, options);
  CHECK_EQ(results.size(), images.size());
  for (std::size_t i = 0; i < results.size(); ++i) {
    for (const json& expected : folder.json["images"][i]["expect"]) {
      const std::string what = expected["what"];
      const auto& result = results[i];
      compare(folder, expected,
              what == "low_res" ? result.low_res
              : what == "iou"   ? result.ious
                                : result.logits);
    }
  }
  return 0.0;
}

double play_pixels(const CaseFolder& folder) {
  const std::array<std::string, 4> formats{"rgb", "bgr", "rgba", "nv12"};
  const int side = folder.json["image_size"];
  std::vector<float> tensor(static_cast<std::size_t>(3 * side * side));
  // one for all sizes: its tables have to follow
  sam2rt::FrameTensor to_tensor(side);
  for (const json& frame : folder.json["frames"]) {
    const auto format = std::find(formats.begin(), formats.end(), frame["format"]);
    const auto pixels = folder.array<std::uint8_t>(frame["file"]);
    sam2rt::FrameView view{pixels.data(), frame["width"], frame["height"]};
    view.format = static_cast<sam2rt::PixelFormat>(format - formats.begin());
    if (folder.json["device"]) {
      // the tests' driver reads 4096 bytes before; an address on the host would not do
      view.data += 4096;
      view.memory = sam2rt::MemoryKind::cuda;
      const bool two_planes = view.format == sam2rt::PixelFormat::nv12;
      if (two_planes) view.chroma = view.data + view.width * view.height;
    }
    to_tensor.run(view, tensor.data());
    compare(folder, frame["expect"], tensor);
  }
  return 0.0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::cerr << "usage: replay BUNDLE THREADS CASE_FOLDER...\n";
    return 2;
  }
  sam2rt::SessionOptions options;
  options.threads = std::stoi(argv[2]);
  const auto session = sam2rt::open_session(sam2rt::Bundle::load(argv[1]), options);
  check::Tests tests;
  for (int i = 3; i < argc; ++i) {
    tests.emplace_back(argv[i], [&session, path = argv[i]] {
      const CaseFolder folder(path);
      const std::string kind = folder.json["kind"];
      const double worst = kind == "image"    ? play_image(folder, session)
                           : kind == "batch"  ? play_batch(folder, session)
                           : kind == "stream" ? play_stream(folder, session)
                           : kind == "pixels" ? play_pixels(folder)
                                              : VideoCase(folder, session).play();
      std::cout << "      largest difference " << worst << "\n";
    });
  }
  return check::run(tests) == 0 ? 0 : 1;
}
