// The parts that trackers are made of; any bundle:  unit BUNDLE
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "antialias.hpp"
#include "bank.hpp"
#include "components.hpp"
#include "prompts.hpp"
#include "sam2rt/sam2rt.hpp"
#include "storage.hpp"
#include "support/check.hpp"
#include "support/scene.hpp"
#include "support/sessions.hpp"
#include "text.hpp"

namespace {

using sam2rt::FrameOutput;
using sam2rt::ModelConfig;
using sam2rt::ObjectHistory;

void numbers_as_python_writes_them() {
  const std::vector<std::pair<double, const char*>> cases{
      {0.1, "0.1"}, {5000.0, "5000.0"}, {1e16, "1e+16"},
      {123456789012345680.0, "1.2345678901234568e+17"},
      {1e15, "1000000000000000.0"}, {1e-4, "0.0001"}, {1e-5, "1e-05"}, {1.5e-7, "1.5e-07"},
      {-0.0, "-0.0"},     {0.0, "0.0"},         {1.0 / 3, "0.3333333333333333"},
      {5e-324, "5e-324"}, {double{0.1F}, "0.10000000149011612"}};
  for (const auto& [value, expected] : cases) CHECK_EQ(sam2rt::repr(value), expected);
  CHECK_EQ(sam2rt::repr(std::string_view("it's")), "\"it's\"");
  CHECK_EQ(sam2rt::repr(std::string_view("a\n\\\x01")), "'a\\n\\\\\\x01'");
}

void hashes_of_the_standard() {
  CHECK_EQ(sam2rt::sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK_EQ(sam2rt::sha256("abc"),
           "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK_EQ(sam2rt::sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
           "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  sam2rt::Sha256 million;
  const std::string part(977, 'a');
  std::size_t left = 1000000;
  for (; left > part.size(); left -= part.size()) million.update(part.data(), part.size());
  million.update(part.data(), left);
  CHECK_EQ(million.finish(), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

void every_half_survives() {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = sam2rt::from_half(half);
    if (!std::isnan(value)) CHECK_EQ(sam2rt::to_half(value), half);
  }
  // ties go to even, what is too large becomes infinite
  CHECK_EQ(sam2rt::to_half(1.0F + 0.00048828125F), 0x3C00);
  CHECK_EQ(sam2rt::to_half(1.0F + 3 * 0.00048828125F), 0x3C02);
  CHECK_EQ(sam2rt::to_half(65519.0F), 0x7BFF);
  CHECK_EQ(sam2rt::to_half(65520.0F), 0x7C00);
  CHECK_EQ(sam2rt::to_half(std::ldexp(1.0F, -25)), 0x0000);
  CHECK_EQ(sam2rt::to_half(std::ldexp(3.0F, -25)), 0x0002);
}

void bfloat16_rounds_to_nearest_even() {
  const std::array<float, 6> values{1.0F, 1.00390625F, 1.01171875F, -2.5F, 3.1415927F, 65504.0F};
  const std::array<float, 6> expected{1.0F, 1.0F, 1.015625F, -2.5F, 3.140625F, 65536.0F};
  sam2rt::StoredMemory stored;
  stored.store(values.data(), values.size(), sam2rt::MemoryDType::bfloat16, 1);
  std::array<float, 6> found{};
  stored.restore(found.data());
  CHECK(found == expected);
  CHECK_EQ(MESSAGE_OF(sam2rt::InputError, sam2rt::memory_dtype("half")),
           "memory_dtype is 'half': expected one of (None, 'float32', 'float16', 'bfloat16')");
}

/// A history whose memories hold their frame's number.
ObjectHistory history(const std::vector<int>& cond, const std::vector<int>& tracked) {
  ObjectHistory made;
  std::uint64_t id = 0;
  const auto add = [&](sam2rt::FrameMap& map, int t) {
    const auto value = static_cast<float>(t);
    FrameOutput& output = map.assign(t);
    output.obj_ptr = {value};
    output.mask_logits = {value};
    output.memory.store(&value, 1, sam2rt::MemoryDType::float32, ++id);
  };
  for (const int t : cond) add(made.cond, t);
  for (const int t : tracked) add(made.non_cond, t);
  return made;
}

std::string selected(const ObjectHistory& past, int frame, const sam2rt::SelectOptions& options) {
  sam2rt::Selection selection;
  sam2rt::select(selection, past, frame, ModelConfig{}, options);
  std::string out;
  for (const auto& m : selection.memories) {
    out += std::to_string(m.frame_idx) + ":" + std::to_string(m.row) + " ";
  }
  out += "|";
  for (const auto& p : selection.pointers) out += " " + std::to_string(p.distance);
  return out;
}

void selection_follows_the_original() {
  // prompted frames first (row 6), others by frame number modulo 6; row 0 is the previous frame
  CHECK_EQ(selected(history({0}, {1, 2}), 3, {}), "0:6 1:1 2:0 | 3 1 2");
  CHECK_EQ(selected(history({0}, {1, 2, 3, 4, 5, 6, 7}), 8, {}),
           "0:6 6:1 7:0 2:5 3:4 4:3 5:2 | 8 1 2 3 4 5 6 7");
  // a prompted frame in the future is attended to, its pointer is not
  CHECK_EQ(selected(history({9}, {3}), 4, {}), "9:6 3:0 | 1");
  CHECK_EQ(selected(history({9}, {8, 7}), 6, {true, 12, -1}), "9:6 7:0 8:1 | 3 1 2");
  // the loop over pointers ends at the border of a video of known length
  CHECK_EQ(selected(history({0}, {1, 2, 3, 4}), 5, {false, 4, -1}), "0:6 1:3 2:2 3:1 4:0 | 5");
  // at most two prompted frames: the nearest before and the nearest after
  CHECK_EQ(selected(history({0, 3, 20, 9}, {}), 5, {false, std::nullopt, 2}),
           "3:6 9:6 0:4 | 2 5");
  // a tie goes to the frame that was prompted first
  CHECK_EQ(selected(history({4, 8, 2, 10}, {}), 6, {false, std::nullopt, 3}), "2:6 4:6 8:6 | 4 2");
  CHECK_EQ(selected(history({4, 8, 10, 2}, {}), 6, {false, std::nullopt, 3}),
           "4:6 8:6 10:6 2:3 | 2 4");
  CHECK_EQ(MESSAGE_OF(sam2rt::StateError, selected(history({}, {1}), 2, {})),
           "an object without a prompted frame cannot be tracked: prompt it first");
}

void forgetting_keeps_what_is_reached() {
  ObjectHistory full = history({0}, {}), pruned = history({0}, {});
  const ModelConfig model;
  std::uint64_t id = 100;
  for (int t = 1; t < 60; ++t) {
    for (ObjectHistory* past : {&full, &pruned}) {
      const auto value = static_cast<float>(t);
      FrameOutput& output = past->non_cond.assign(t);
      output.obj_ptr = {value};
      output.memory.store(&value, 1, sam2rt::MemoryDType::float32, ++id);
    }
    pruned.forget_unreachable(model, t + 1, -1);
    CHECK_EQ(selected(pruned, t + 1, {}), selected(full, t + 1, {}));
  }
  CHECK_EQ(pruned.non_cond.size(), 15U);
}

void slots_hold_what_was_selected(const sam2rt::Bundle& bundle) {
  MixingSession session(bundle);
  const ObjectHistory past = history({0}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
  sam2rt::SlotBuffer kept;
  for (int frame = 7; frame < 12; ++frame) {
    sam2rt::Selection selection;
    sam2rt::select(selection, past, frame, ModelConfig{}, {});
    kept.load(session, {&selection}, 1);
    for (std::size_t i = 0; i < selection.memories.size(); ++i) {
      CHECK_EQ(kept.memory().host()[i], static_cast<float>(selection.memories[i].frame_idx));
      CHECK_EQ(kept.rows()[i], selection.memories[i].row);
    }
  }
}

void small_holes_are_filled() {
  // a hole of two pixels that touch at a corner, one of three, and background at the border
  const std::vector<const char*> drawing{"#######", "#.##..#", "##.###.", "#######", "..#####"};
  std::vector<float> logits;
  for (const char* row : drawing) {
    for (int x = 0; x < 7; ++x) logits.push_back(row[x] == '#' ? 1.0F : -1.0F);
  }
  std::vector<float> filled = logits;
  sam2rt::Components components;
  components.fill_holes(filled.data(), 5, 7, 2);
  CHECK_EQ(filled[8], 0.1F);
  CHECK_EQ(filled[16], 0.1F);
  CHECK_EQ(filled[11], -1.0F);
  CHECK_EQ(filled[28], 0.1F);
  components.fill_holes(logits.data(), 5, 7, 3);
  for (const float value : logits) CHECK(value > 0);
}

void specks_are_removed() {
  std::vector<float> logits(36, -1.0F);
  for (const std::size_t at : {0U, 7U, 20U, 21U, 22U, 28U}) logits[at] = 2.0F;
  sam2rt::Components components;
  components.clean_mask(logits.data(), 6, 6, 0.5F, 0.0, 2.0);
  CHECK_EQ(logits[0], -9.5F);
  CHECK_EQ(logits[7], -9.5F);
  CHECK_EQ(logits[21], 2.0F);
}

void run_lengths_come_back() {
  std::uint32_t state = 1;
  for (int round = 0; round < 50; ++round) {
    const int height = 1 + round % 13, width = 1 + (round * 7) % 31;
    std::vector<std::uint8_t> mask(static_cast<std::size_t>(height * width));
    for (auto& pixel : mask) {
      state = state * 1664525U + 1013904223U;
      pixel = (state >> 28) < static_cast<std::uint32_t>(round % 17) ? 1 : 0;
    }
    const auto rle = sam2rt::encode_rle({mask.data(), width, height});
    CHECK(sam2rt::decode_rle(rle) == mask);
  }
  // as pycocotools writes it: columns 0000 0110 0100 1111
  const std::vector<std::uint8_t> known{0, 0, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 0, 0, 1};
  CHECK_EQ(sam2rt::encode_rle({known.data(), 4, 4}).counts, "522O03");
  for (const char* bad : {"", "5", "522O0", "522O033", "!", "o", "oooooooooooooo0", "@@@@"}) {
    const auto message =
        MESSAGE_OF(sam2rt::InputError, sam2rt::decode_rle({4, 4, std::string(bad)}));
    CHECK(message.find("run lengths of a 4 x 4 mask are malformed") == 0);
  }
}

void prompts_are_checked() {
  const auto refused = [](const sam2rt::PointPrompt& prompt) {
    return MESSAGE_OF(sam2rt::InputError, sam2rt::model_points(prompt, {100, 200}, 256));
  };
  CHECK_EQ(refused({{{5, 5}}, {}, {}}), "points were given without labels: give both or neither");
  CHECK_EQ(refused({{}, {1}, {}}), "labels were given without points: give both or neither");
  CHECK_EQ(refused({{{5, 5}}, {1, 0}, {}}), "1 points but 2 labels: give one label a point");
  const auto box = [&](const sam2rt::Box& given) { return refused({{}, {}, given}); };
  CHECK_EQ(box({0, 0, 221, 50}),
           "the box corner [221.0, 50.0] lies outside the image of width 200 and height 100: check "
           "the order x, y and the image's size");
  CHECK_EQ(box({-19, 0, 0, 50}),
           "box [-19.0, 0.0, 0.0, 50.0] lies outside the image: expected one that overlaps it");
  CHECK_EQ(box({5, 0, 5, 50}),
           "box [5.0, 0.0, 5.0, 50.0] is empty or reversed: expected x0 < x1, y0 < y1");
  const auto over = sam2rt::model_points({{}, {}, sam2rt::Box{-20, -10, 220, 110}}, {100, 200},
                                         256);
  CHECK(over.coords.front() < -25 && over.coords.back() > 281);
  const auto made = sam2rt::model_points({{{50, 25}}, {0}, sam2rt::Box{0, 0, 100, 50}}, {100, 200},
                                         256);
  CHECK((made.coords == std::vector<float>{0, 0, 128, 128, 64, 64}));
  CHECK((made.labels == std::vector<std::int32_t>{2, 3, 0}));
  std::vector<std::uint8_t> mask(200, 1);
  const sam2rt::MaskView view{mask.data(), 20, 10};
  CHECK_EQ(MESSAGE_OF(sam2rt::InputError, sam2rt::model_mask(view, {20, 10}, 64)),
           "mask has shape (10, 20), expected the frame's (height, width) (20, 10): it lies on its "
           "side, use mask.T");
  CHECK(sam2rt::model_mask(view, {10, 21}, 64) == std::vector<float>(4096, 1));
  CHECK(sam2rt::model_mask(view, {10, 20}, 64) == std::vector<float>(4096, 1));
  std::vector<std::uint8_t> half(200, 0), full(200, 0);
  for (std::size_t i = 0; i < 100; ++i) {
    half[i] = 1;
    full[i] = 255;
  }
  const auto ones = sam2rt::model_mask({half.data(), 20, 10}, {10, 20}, 64);
  CHECK(ones == sam2rt::model_mask({full.data(), 20, 10}, {10, 20}, 64));
  CHECK(std::count(ones.begin(), ones.end(), 1.0F) == 2048);
  for (const std::uint8_t other : {std::uint8_t{255}, std::uint8_t{254}}) {
    half[150] = other;
    const sam2rt::MaskView ids{half.data(), 20, 10};
    CHECK_EQ(MESSAGE_OF(sam2rt::InputError, sam2rt::model_mask(ids, {10, 20}, 64)),
             "a mask must be bool or hold only 0 and 1: compare it with > 0 first");
  }
  mask[7] = 2;
  CHECK_EQ(MESSAGE_OF(sam2rt::InputError, sam2rt::model_mask(view, {10, 20}, 64)),
           "a mask must be bool or hold only 0 and 1: compare it with > 0 first");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  const auto bundle = sam2rt::Bundle::load(argv[1]);
  return check::run({
             {"numbers as Python writes them", numbers_as_python_writes_them},
             {"hashes of the standard", hashes_of_the_standard},
             {"every half survives", every_half_survives},
             {"bfloat16 rounds to nearest even", bfloat16_rounds_to_nearest_even},
             {"selection follows the original", selection_follows_the_original},
             {"forgetting keeps what is reached", forgetting_keeps_what_is_reached},
             {"slots hold what was selected", [&] { slots_hold_what_was_selected(bundle); }},
             {"small holes are filled", small_holes_are_filled},
             {"specks are removed", specks_are_removed},
             {"run lengths come back", run_lengths_come_back},
             {"prompts are checked", prompts_are_checked},
         }) == 0
             ? 0
             : 1;
}
