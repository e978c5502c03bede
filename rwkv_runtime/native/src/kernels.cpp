// Compiled once per instruction set, with UNSPOOL_ISA as its name: hands out the table of its kernels.
#include "decode7.hpp"
#include "gemm.hpp"
#include "int4.hpp"
#include "products.hpp"
#include "rows.hpp"
#include "shift_mix.hpp"
#include "time_mix4.hpp"
#include "time_mix6.hpp"
#include "time_mix7.hpp"
#include "window7.hpp"

namespace unspool {
namespace UNSPOOL_ISA {

const Kernels* kernels() {
    static constexpr Kernels table = {
        shift_mix, lerp_rows,     time_mix7,       time_mix6,   time_mix4, squared_relu, hyperbolic_tangent,
        sigmoid,   quantise_rows, dequantise_sums, unpack_int4, products,  decode7,      GEMM,
        WINDOW7};
    return &table;
}

}  // namespace UNSPOOL_ISA
}  // namespace unspool
