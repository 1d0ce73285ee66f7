# Sourced by `run`: llama.cpp from the source distribution of llama-cpp-python, built for this CPU.
# GCC 12's `_tile_loadconfig` tells the optimizer of only 8 of the 64 bytes that it reads, so the stores
# which fill the rest may be dropped and the first tile load is an illegal instruction. A barrier
# before the call keeps them; without it the AMX path of that build cannot be measured.
build_llama_cpp() {
  local python="$1" sources="$2" version="0.3.36"
  mkdir -p "$sources"
  "$python" -m pip download --quiet --no-deps --no-binary llama-cpp-python --dest "$sources" "llama-cpp-python==$version"
  tar -xzf "$sources/llama_cpp_python-$version.tar.gz" -C "$sources"
  local amx="$sources/llama_cpp_python-$version/vendor/llama.cpp/ggml/src/ggml-cpu/amx/mmq.cpp"
  # shellcheck disable=SC2016
  sed -i 's/^\( *\)_tile_loadconfig(&tc);/\1__asm__ volatile("" : : "r"(\&tc) : "memory");\n&/' "$amx"
  grep -q '__asm__ volatile("" : : "r"(&tc)' "$amx" || { echo "llama.cpp's AMX source has changed: $amx" >&2; return 1; }
  CMAKE_ARGS="-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF -DCMAKE_BUILD_TYPE=Release" CMAKE_BUILD_PARALLEL_LEVEL=2 \
    "$python" -m pip install --quiet "$sources/llama_cpp_python-$version"
  rm -rf "$sources"
}
