// Ends what target_<set>.h began.
#ifndef QM_SET_IS_PORTABLE
#pragma clang attribute pop
#endif
