#include "graph_file.hpp"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <vector>

#include "graph_operators.hpp"
#include "manifest.hpp"
#include "platform.hpp"
#include "sam2rt/error.hpp"
#include "text.hpp"

namespace sam2rt {

namespace {

/// bytes; weights lie outside, so that the largest have one million
constexpr std::uint64_t largest_graph = 1 << 26;

enum Wire : unsigned { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

/// Which fields a message of ours may have, as bits by number: numbers, texts and messages, and
/// lists of numbers, packed or a number a field.
struct Known {
  std::uint32_t varints = 0, texts = 0, floats = 0, lists = 0;
};

template <class... Numbers>
constexpr std::uint32_t bits(Numbers... numbers) {
  return ((std::uint32_t{1} << numbers) | ... | 0U);
}

constexpr Known model_fields{bits(1), bits(2, 3, 7, 8, 14, 25), 0, 0};
constexpr Known graph_fields{0, bits(1, 2, 5, 10, 11, 12, 13), 0, 0};
constexpr Known node_fields{0, bits(1, 2, 3, 4, 5, 6, 7), 0, 0};
constexpr Known attribute_fields{bits(3, 20), bits(1, 4, 5, 21), bits(2), bits(7, 8)};
constexpr Known function_fields{0, bits(1, 4, 5, 6, 7, 8, 9, 10, 11, 12), 0, 0};
constexpr Known tensor_fields{bits(2, 14), bits(8, 9, 12, 13), 0, bits(1, 4, 5, 7, 10, 11)};
constexpr Known opset_fields{bits(2), bits(1), 0, 0};
constexpr Known entry_fields{0, bits(1, 2), 0, 0};

struct Field {
  std::uint64_t number = 0;
  std::uint64_t value = 0;     ///< of a number
  std::string_view content{};  ///< of text or a message
};

[[noreturn]] void damaged() { throw GraphError("damaged, or written by another exporter"); }

/// The name in quotes, as Python shows bytes that need not be text.
std::string shown(std::string_view name) {
  std::string plain;
  for (const char c : name) {
    const auto byte = static_cast<unsigned char>(c);
    static const char* const hex = "0123456789abcdef";
    if (byte < 0x80) {
      plain += c;
    } else {
      plain += {'\\', 'x', hex[byte >> 4], hex[byte & 15]};
    }
  }
  return ascii(plain).substr(0, 60);
}

/// The fields of a message one after the other, all of them known.
class Message {
 public:
  Message(std::string_view content, const Known& known) : rest_(content), known_(known) {}

  bool next(Field& field) {
    if (rest_.empty()) return false;
    const std::uint64_t key = number();
    field = {key >> 3, 0, {}};
    const auto wire = static_cast<unsigned>(key & 7);
    if (!expected(field.number, wire)) damaged();
    if (wire == varint) {
      field.value = number();
    } else {
      const std::uint64_t size = wire == bytes ? number() : wire == fixed64 ? 8 : 4;
      if (size > rest_.size()) damaged();
      field.content = rest_.substr(0, size);
      rest_.remove_prefix(size);
    }
    return true;
  }

 private:
  bool expected(std::uint64_t field, unsigned wire) const {
    if (field > 31) return false;
    const std::uint32_t bit = std::uint32_t{1} << field;
    const bool listed = (known_.lists & bit) != 0;
    switch (wire) {
      case varint: return listed || (known_.varints & bit) != 0;
      case bytes: return listed || (known_.texts & bit) != 0;
      case fixed32: return listed || (known_.floats & bit) != 0;
      case fixed64: return listed;
      default: return false;
    }
  }

  std::uint64_t number() {
    std::uint64_t result = 0;
    bool overflows = false;
    for (unsigned shift = 0; shift < 70; shift += 7) {
      if (rest_.empty()) break;
      const auto byte = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      // Python's numbers have no end: what does not fit here is no size or field either
      if (shift == 63 && (byte & 0x7E) != 0) overflows = true;
      result |= (std::uint64_t{byte} & 0x7F) << shift;
      if (byte < 0x80) return overflows ? UINT64_MAX : result;
    }
    damaged();
  }

  std::string_view rest_;
  const Known& known_;
};

/// All of them, before what is in them is looked at: as Python does it.
std::vector<Field> fields_of(std::string_view content, const Known& known) {
  std::vector<Field> fields;
  Message message(content, known);
  for (Field field; message.next(field);) fields.push_back(field);
  return fields;
}

/// The text of a field that may be there once.
void take_once(std::string_view& text, std::string_view found) {
  if (text.data() != nullptr) damaged();
  text = found.data() != nullptr ? found : std::string_view("", 0);
}

const nlohmann::json& table() {
  static const auto loaded = nlohmann::json::parse(graph_operators_json);
  return loaded;
}

class Check {
 public:
  explicit Check(const std::map<std::string, std::uint64_t>& weights) : weights_(weights) {
    for (const auto& name : table().at("operators")) plain_.insert(name.get<std::string>());
    for (const auto& name : table().at("functions")) ours_.insert(name.get<std::string>());
    domain_ = table().at("domain").get<std::string>();
  }

  void model(std::string_view content) const {
    int graphs = 0;
    for (const Field& field : fields_of(content, model_fields)) {
      if (field.number == 7) {
        ++graphs;
        graph(field.content);
      } else if (field.number == 8) {
        opset(field.content);
      } else if (field.number == 25) {
        function(field.content);
      }
    }
    if (graphs != 1) throw GraphError(text(graphs, " graphs, expected one"));
  }

 private:
  void graph(std::string_view content) const {
    for (const Field& field : fields_of(content, graph_fields)) {
      if (field.number == 1) node(field.content, true);
      if (field.number == 5) tensor(field.content);
    }
  }

  void function(std::string_view content) const {
    std::string_view name, domain;
    const auto fields = fields_of(content, function_fields);
    for (const Field& field : fields) {
      if (field.number == 1) take_once(name, field.content);
      if (field.number == 10) take_once(domain, field.content);
    }
    if (domain != domain_ || !is_one_of(ours_, name)) {
      throw GraphError(text("the function ", shown(name), ", which no export writes"));
    }
    for (const Field& field : fields) {
      if (field.number == 7) node(field.content, false);
      if (field.number == 9) opset(field.content);
      if (field.number == 11) attribute(field.content);
    }
  }

  void node(std::string_view content, bool functions) const {
    std::string_view name, domain;
    for (const Field& field : fields_of(content, node_fields)) {
      if (field.number == 4) take_once(name, field.content);
      if (field.number == 5) attribute(field.content);
      if (field.number == 7) take_once(domain, field.content);
    }
    const bool plain = domain.empty() && is_one_of(plain_, name);
    if (!plain && !(functions && domain == domain_ && is_one_of(ours_, name))) {
      throw GraphError(text("the operator ", shown(name), ", which no export writes"));
    }
  }

  void attribute(std::string_view content) const {
    for (const Field& field : fields_of(content, attribute_fields)) {
      if (field.number == 5) tensor(field.content);
    }
  }

  void opset(std::string_view content) const {
    std::string_view domain;
    for (const Field& field : fields_of(content, opset_fields)) {
      if (field.number == 1) take_once(domain, field.content);
    }
    if (!domain.empty() && domain != domain_) {
      throw GraphError(text("operators of ", shown(domain), ", which no export writes"));
    }
  }

  void tensor(std::string_view content) const {
    std::map<std::string, std::string> place;
    bool outside = false;
    for (const Field& field : fields_of(content, tensor_fields)) {
      if (field.number == 14) outside |= field.value != 0;
      if (field.number == 13) add_entry(place, field.content);
    }
    if (outside || !place.empty()) check_place(place);
  }

  static void add_entry(std::map<std::string, std::string>& place, std::string_view content) {
    std::string_view key, value;
    for (const Field& field : fields_of(content, entry_fields)) {
      take_once(field.number == 1 ? key : value, field.content);
    }
    const bool known = key == "location" || key == "offset" || key == "length";
    if (!known || !place.emplace(key, value).second) odd_place();
  }

  void check_place(const std::map<std::string, std::string>& place) const {
    const auto at = [&](const char* key, const char* fallback) {
      const auto found = place.find(key);
      return found == place.end() ? std::string(fallback) : found->second;
    };
    const std::string location = at("location", "");
    const auto file = weights_.find(location);
    if (file == weights_.end()) {
      throw GraphError(text("weights in ", shown(location), ", which the manifest does not list"));
    }
    std::uint64_t last = 0;
    for (const char* key : {"offset", "length"}) {
      const std::string digits = at(key, "0");
      if (digits.empty() || digits.size() > 15 ||
          digits.find_first_not_of("0123456789") != std::string::npos) {
        odd_place();
      }
      last += std::stoull(digits);
    }
    if (last > file->second) {
      throw GraphError(text("weights beyond the end of ", shown(location)));
    }
  }

  [[noreturn]] static void odd_place() {
    throw GraphError("weights in a place that no export writes");
  }

  static bool is_one_of(const std::set<std::string, std::less<>>& names, std::string_view name) {
    return names.find(name) != names.end();
  }

  const std::map<std::string, std::uint64_t>& weights_;
  std::set<std::string, std::less<>> plain_, ours_;
  std::string domain_;
};

}  // namespace

void check_graph(const std::string& content, const std::map<std::string, std::uint64_t>& weights) {
  Check(weights).model(content);
}

void check_graph_file(const std::filesystem::path& folder, const GraphEntry& graph) {
  const auto path = folder / std::filesystem::u8path(graph.file.path);
  // in a graph, files of weights are named from its own folder
  const std::string home = graph.file.path.substr(0, graph.file.path.rfind('/') + 1);
  std::map<std::string, std::uint64_t> weights;
  for (const BundleFile& file : graph.external) {
    if (file.path.compare(0, home.size(), home) == 0) {
      weights[file.path.substr(home.size())] = file.size;
    }
  }
  try {
    // another ending could mean another format to a backend
    if (path.extension() != ".onnx" || graph.file.size > largest_graph) {
      throw GraphError(text("expected a file .onnx of at most ", largest_graph, " bytes"));
    }
    std::string content(graph.file.size, '\0');
    std::ifstream file(openable(path), std::ios::binary);
    file.read(content.data(), static_cast<std::streamsize>(content.size()));
    if (!file) throw BundleError("cannot read " + path.u8string() + ": " + export_again);
    check_graph(content, weights);
  } catch (const GraphError& error) {
    throw BundleError(text(path.u8string(), " is no graph of a bundle (", error.what(), "): ",
                           export_again));
  }
}

}  // namespace sam2rt
