// QM_NAME(add) is add_portable, add_avx2, …: one name per set.
#ifndef QM_NAME
#define QM_JOIN_(name, set) name##_##set
#define QM_JOIN(name, set) QM_JOIN_(name, set)
#define QM_NAME(name) QM_JOIN(name, QM_SET)
#endif
