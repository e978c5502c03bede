// The time mix of RWKV-4 between its matrices, a vector of channels of a lane at a time.
//
// Sums are held times exp(-maximum). Of the two factors that join sums with a token one is always 1, so one
// exponential of the difference serves both.
#pragma once
#include "abi.hpp"
#include "vec.hpp"

namespace unspool {
namespace UNSPOOL_ISA {

struct Sums4 {
    Vec numerator, denominator, maximum;

    Sums4 joined(Vec key, Vec value) const {
        const Vec apart = maximum - key, smaller = exponential(-magnitude(apart)), one = spread(1.0f);
        const Vec mine = apart < 0.0f ? smaller : one, theirs = apart < 0.0f ? one : smaller;
        return {mine * numerator + theirs * value, mine * denominator + theirs, apart < 0.0f ? key : maximum};
    }
};

template <class T>
struct TimeMixer4 {
    const TimeMix4& call;

    int64_t vectors() const { return (call.width + WIDTH - 1) / WIDTH; }

    void operator()(int64_t task) {
        const int64_t lane = task / vectors(), channel = task % vectors() * WIDTH;
        if (channel + WIDTH <= call.width)
            walk(lane, channel, Whole{});
        else
            walk(lane, channel, Part{call.width - channel});
    }

    template <class Place>
    void walk(int64_t lane, int64_t channel, Place at) const {
        const int64_t place = lane * call.width + channel, length = call.lengths[lane];
        const Vec log_decay = at.get(call.log_decay + channel), bonus = at.get(call.bonus + channel);
        Sums4 sums = {at.get(call.numerator + place), at.get(call.denominator + place), at.get(call.maximum + place)};
        int64_t p = lane * call.tokens * call.width + channel;
        for (int64_t t = 0; t < call.tokens; ++t, p += call.width) {
            Vec mixed = {};
            if (t < length) {
                const Vec key = at.get(static_cast<const T*>(call.key) + p);
                const Vec value = at.get(static_cast<const T*>(call.value) + p);
                const Sums4 read = sums.joined(key + bonus, value);
                mixed = sigmoid_of(at.get(static_cast<const T*>(call.receptance) + p)) * read.numerator / read.denominator;
                sums = Sums4{sums.numerator, sums.denominator, sums.maximum + log_decay}.joined(key, value);
            }
            at.put(static_cast<T*>(call.mixed) + p, mixed);
        }
        at.put(call.numerator_after + place, sums.numerator);
        at.put(call.denominator_after + place, sums.denominator);
        at.put(call.maximum_after + place, sums.maximum);
    }
};

template <class T>
void time_mix4_of(const TimeMix4& call) {
    TimeMixer4<T> work{call};
    for_each_task(call.threads, call.lanes * work.vectors(), work);
}

inline void time_mix4(const TimeMix4* call) {
    call->dtype == FLOAT32 ? time_mix4_of<float>(*call) : time_mix4_of<Bf16>(*call);
}

}  // namespace UNSPOOL_ISA
}  // namespace unspool
