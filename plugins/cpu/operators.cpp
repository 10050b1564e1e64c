#include "operators.hpp"

#include <atomic>
#include <cstdlib>
#include <utility>

namespace sam2rt_cpu {

Buffer::Buffer(Size bytes) : at_(std::aligned_alloc(64, padded(bytes ? bytes : 1, 64))) {}
Buffer::~Buffer() { std::free(at_); }
Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(at_, other.at_);
  return *this;
}

namespace {

// a thread's own memory, kept between tasks; null when there is none
void* scratch(Size bytes) {
  static thread_local Buffer kept;
  static thread_local Size size = 0;
  if (size < bytes) {
    kept = Buffer();
    kept = Buffer(bytes);
    size = kept.get() ? bytes : 0;
  }
  return kept.get();
}

// packed keys and values of so many objects at once as fit, in bytes
constexpr Size PACKED_AT_ONCE = Size{16} << 20;
// queries up to which an object is one task, which packs its own keys
constexpr Size FEW_QUERIES = 192;

struct Work {
  const Units& units;
  const Attention& whole;
  bool one_query;
  Size objects, tiles, blocks, keys_size, values_size, scratch_size, first = 0;
  Buffer packed;
  std::atomic<bool> failed{false};

  Work(const Units& of, const Attention& attention, Size count, bool shared)
      : units(of),
        whole(attention),
        one_query(shared),
        objects(count),
        tiles((attention.rows + of.query_rows - 1) / of.query_rows),
        blocks((attention.keys + of.packed_keys - 1) / of.packed_keys),
        keys_size(packed_keys_size(attention, of.packed_keys)),
        values_size(packed_values_size(attention, of.packed_keys)),
        scratch_size(of.attention_scratch(attention.width, attention.value_width)) {}

  Size packed_bytes() const { return padded((keys_size + values_size) * sizeof(Bf16), 64); }

  Attention object(Size i) const {
    Attention one = whole;
    one.query += one_query ? 0 : i * whole.rows * whole.width;
    one.key += i * whole.keys * whole.width;
    one.value += i * whole.keys * whole.value_width;
    one.output += i * whole.rows * whole.value_width;
    if (one.log_denominator) one.log_denominator += i * whole.rows;
    return one;
  }

  Bf16* packed_of(Size i) const {
    return packed.bf16() + (i - first) * (packed_bytes() / sizeof(Bf16));
  }
};

void pack_task(void* what, Size i) {
  const Work& work = *static_cast<const Work*>(what);
  const Size object = work.first + i / work.blocks;
  Bf16* const keys = work.packed_of(object);
  work.units.pack_keys(work.object(object), i % work.blocks * work.units.packed_keys, keys,
                       keys + work.keys_size);
}

void attend_task(void* what, Size i) {
  Work& work = *static_cast<Work*>(what);
  void* const memory = scratch(work.scratch_size);
  if (!memory) {
    work.failed = true;
    return;
  }
  const Size object = work.first + i / work.tiles;
  const Bf16* const keys = work.packed_of(object);
  work.units.begin();
  work.units.attend(work.object(object), i % work.tiles * work.units.query_rows, keys,
                    keys + work.keys_size, memory);
  work.units.end();
}

void object_task(void* what, Size i) {
  Work& work = *static_cast<Work*>(what);
  void* const memory = scratch(work.packed_bytes() + work.scratch_size);
  if (!memory) {
    work.failed = true;
    return;
  }
  const Attention one = work.object(i);
  Bf16* const keys = static_cast<Bf16*>(memory);
  Bf16* const values = keys + work.keys_size;
  for (Size block = 0; block < work.blocks; ++block) {
    work.units.pack_keys(one, block * work.units.packed_keys, keys, values);
  }
  work.units.begin();
  for (Size tile = 0; tile < work.tiles; ++tile) {
    work.units.attend(one, tile * work.units.query_rows, keys, values,
                      static_cast<unsigned char*>(memory) + work.packed_bytes());
  }
  work.units.end();
}

struct DenseWork {
  const Units& units;
  const Dense& dense;
  Size rows, scratch_size;
  std::atomic<bool> failed{false};
};

void dense_task(void* what, Size i) {
  DenseWork& work = *static_cast<DenseWork*>(what);
  void* const memory = scratch(work.scratch_size);
  if (!memory) {
    work.failed = true;
    return;
  }
  const Size most = work.units.dense_rows, first = i * most;
  work.units.begin();
  work.units.dense(work.dense, first, first + most < work.rows ? most : work.rows - first, memory);
  work.units.end();
}

}  // namespace

bool attend_all(const Units& units, const Attention& attention, Size objects, bool one_query,
                const Parallel& parallel) {
  Work work(units, attention, objects, one_query);
  if (attention.rows <= FEW_QUERIES && work.packed_bytes() <= PACKED_AT_ONCE) {
    parallel.run(parallel.pool, objects, object_task, &work);
    return !work.failed;
  }
  const Size fitting = PACKED_AT_ONCE / work.packed_bytes();
  const Size group = fitting < 1 ? 1 : fitting < objects ? fitting : objects;
  work.packed = Buffer(group * work.packed_bytes());
  if (!work.packed.get()) return false;
  for (; work.first < objects; work.first += group) {
    const Size left = objects - work.first, count = left < group ? left : group;
    parallel.run(parallel.pool, count * work.blocks, pack_task, &work);
    parallel.run(parallel.pool, count * work.tiles, attend_task, &work);
  }
  return !work.failed;
}

bool dense_all(const Units& units, const Dense& dense, Size rows, const Parallel& parallel) {
  DenseWork work{units, dense, rows, units.dense_scratch(dense.depth)};
  parallel.run(parallel.pool, (rows + units.dense_rows - 1) / units.dense_rows, dense_task, &work);
  return !work.failed;
}

}  // namespace sam2rt_cpu
