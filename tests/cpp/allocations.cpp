// A warm StreamTracker allocates nothing per frame:  allocations BUNDLE
// Every operator new of the process is counted, with a session that allocates nothing itself; then
// with ONNX Runtime those that do not come from its library.
#include <dlfcn.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>

#include "support/check.hpp"
#include "support/scene.hpp"
#include "support/sessions.hpp"

namespace {

std::atomic<long> all{0};
std::atomic<long> ours{0};
std::atomic<bool> counting{false};

void* counted(std::size_t size, const void* caller) {
  if (counting) {
    ++all;
    Dl_info from{};
    const bool known = dladdr(const_cast<void*>(caller), &from) != 0 && from.dli_fname != nullptr;
    // what ONNX Runtime asks for itself, or through the C++ library
    if (!known || (std::strstr(from.dli_fname, "libonnxruntime") == nullptr &&
                   std::strstr(from.dli_fname, "libstdc++") == nullptr)) {
      ++ours;
    }
  }
  void* memory = std::malloc(size != 0 ? size : 1);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

void* operator new(std::size_t size) { return counted(size, __builtin_return_address(0)); }
void* operator new[](std::size_t size) { return counted(size, __builtin_return_address(0)); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

namespace {

/// Allocations in `frames` frames of a tracker that is warm.
void track(const std::shared_ptr<sam2rt::Session>& session, int frames, const char* dtype) {
  Scene scene;
  sam2rt::StreamOptions options;
  options.memory_dtype = dtype;
  sam2rt::StreamTracker tracker(session, options);
  Scene::prompt(tracker);
  int t = 0;
  for (; t < 24; ++t) tracker.step(scene.frame(t));
  all = ours = 0;
  for (const int end = t + frames; t < end; ++t) {
    const auto frame = scene.frame(t);
    counting = true;
    tracker.step(frame);
    counting = false;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  const auto bundle = sam2rt::Bundle::load(argv[1]);
  const check::Tests tests{
      {"the counter counts",
       [] {
         all = ours = 0;
         counting = true;
         std::vector<int>(1000).swap(*std::make_unique<std::vector<int>>());
         counting = false;
         CHECK_EQ(ours.load(), 2L);
       }},
      {"nothing is allocated outside the backend",
       [&bundle] {
         for (const char* dtype : {"float32", "float16", "bfloat16"}) {
           for (const bool fused : {false, true}) {
             track(std::make_shared<MixingSession>(bundle, 1000, fused), 40, dtype);
             CHECK_EQ(all.load(), 0L);
           }
         }
       }},
      {"the session on ONNX Runtime allocates nothing of its own",
       [&bundle] {
         sam2rt::SessionOptions options;
         options.threads = 1;
         track(sam2rt::open_session(bundle, options), 20, "float32");
         std::cout << "      in ONNX Runtime: " << all.load() / 20 << " a frame\n";
         CHECK(all > 0);
         CHECK_EQ(ours.load(), 0L);
       }},
  };
  return check::run(tests) == 0 ? 0 : 1;
}
