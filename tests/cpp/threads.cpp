// Threads that share one session give the bits of one alone:
//   threads BUNDLE [ort|mixing [TEST]]     mixing: without ONNX Runtime, for the thread sanitizer
#include <atomic>
#include <cstring>
#include <thread>

#include "support/check.hpp"
#include "support/mixed_use.hpp"

namespace {

using Role = mixed_use::Role;
using Results = std::vector<std::vector<std::string>>;

/// What each role gives, all at once.
Results together(const std::vector<Role>& roles) {
  Results found(roles.size());
  std::vector<std::exception_ptr> failures(roles.size());
  std::vector<std::thread> threads;
  std::atomic<std::size_t> ready{0};
  for (std::size_t i = 0; i < roles.size(); ++i) {
    threads.emplace_back([&, i] {
      // none begins before all are there
      ++ready;
      while (ready < roles.size()) std::this_thread::yield();
      try {
        found[i] = roles[i]();
      } catch (...) {
        failures[i] = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& failure : failures) {
    if (failure != nullptr) std::rethrow_exception(failure);
  }
  return found;
}

void same_as_alone(const std::vector<Role>& roles) {
  const Results found = together(roles);
  for (std::size_t i = 0; i < roles.size(); ++i) {
    CHECK(!found[i].empty());
    CHECK(found[i] == roles[i]());
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  const bool mixing = argc > 2 && std::strcmp(argv[2], "mixing") == 0;
  const mixed_use::Shared shared(argv[1], mixing);
  const check::Tests tests{
      {"four trackers, one session",
       [&shared] {
         std::vector<Role> roles;
         for (int i = 0; i < 4; ++i) roles.push_back([&shared, i] { return shared.stream(i, 20); });
         same_as_alone(roles);
       }},
      {"sixteen threads of mixed use", [&shared] { same_as_alone(shared.sixteen()); }},
  };
  return check::run(tests, argc - 2, argv + 2) == 0 ? 0 : 1;
}
