// SPDX-License-Identifier: Apache-2.0
//
// System calls that fail on demand; see kth.h.
#ifndef PM_TESTS_KTH_CALLS_H
#define PM_TESTS_KTH_CALLS_H

enum kth_calls_mode {
    KTH_CALLS_ARE_NOT_TRIED,    // only allocations fail
    KTH_CALLS_FAIL,             // as do allocations
    KTH_CALLS_ARE_INTERRUPTED,  // EINTR
    KTH_CALLS_FIND_NOTHING,     // EAGAIN
    KTH_CALLS_DO_A_PART,        // one byte
};

// In the last three modes only transfers (recv, sendmsg, accept4) are counted, and no allocation is.
void kth_calls_mode(enum kth_calls_mode mode);

#endif
