// Ends what target_<set>.h began.
#ifndef QM_SET_IS_BASELINE
#pragma clang attribute pop
#endif
