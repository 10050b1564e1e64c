#ifndef SAM2RT_TESTS_CHECK_HPP
#define SAM2RT_TESTS_CHECK_HPP

#include <exception>
#include <functional>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace check {

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <class... T>
[[noreturn]] void fail(const char* file, int line, const T&... parts) {
  std::ostringstream out;
  out << file << ":" << line << ": ";
  (out << ... << parts);
  throw Failure(out.str());
}

template <class A, class B>
void equal(const A& found, const B& expected, const char* what, const char* file, int line) {
  if (!(found == expected)) fail(file, line, what, " is ", found, ", expected ", expected);
}

/// The message of the error of that type which a call throws.
template <class Error, class Call>
std::string message_of(Call call, const char* file, int line) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  fail(file, line, "nothing was thrown");
}

using Tests = std::vector<std::pair<const char*, std::function<void()>>>;

/// Run all tests (or those whose name holds argv[1]); the number of failures.
inline int run(const Tests& tests, int argc = 0, char** argv = nullptr) {
  int failures = 0;
  for (const auto& [name, test] : tests) {
    if (argc > 1 && std::string(name).find(argv[1]) == std::string::npos) continue;
    try {
      test();
      std::cout << "ok    " << name << "\n";
    } catch (const std::exception& error) {
      std::cout << "FAIL  " << name << ": " << error.what() << "\n";
      ++failures;
    }
  }
  return failures;
}

}  // namespace check

#define CHECK(condition) \
  do { \
    if (!(condition)) check::fail(__FILE__, __LINE__, #condition); \
  } while (false)
#define CHECK_EQ(found, expected) check::equal(found, expected, #found, __FILE__, __LINE__)
#define MESSAGE_OF(error, ...) \
  check::message_of<error>([&] { __VA_ARGS__; }, __FILE__, __LINE__)

#endif
