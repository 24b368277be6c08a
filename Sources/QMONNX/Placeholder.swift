import QMTensor
