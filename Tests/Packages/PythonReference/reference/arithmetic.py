"""arithmetic.md, "Conventions" to "Functions of two numbers": rounding, the tree, and functions, on
NumPy arrays of float32 and float64, whose + − · / √ are the IEEE operations."""

import functools

import numpy as np

from .types import CODE_RANGES, FLOAT32

F = np.float32
NAN = np.array(0x7FC00000, np.uint32).view(F)[()]
MIDPOINT_MASK, MIDPOINT = np.int64((1 << 29) - 1), np.int64(1 << 28)
SMALLEST_NORMAL = float(np.finfo(F).tiny)


def without_warnings(function):
    """Overflows and NaN are results, no errors."""
    @functools.wraps(function)
    def wrapped(*arguments, **keywords):
        with np.errstate(all='ignore'):
            return function(*arguments, **keywords)
    return wrapped


def constants(*literals, type=F):
    """Constants as they stand in the text, hexadecimal or decimal."""
    return [type(float.fromhex(literal) if 'x' in literal else float(literal))
            for literal in ' '.join(literals).split()]


# Fused steps

def two_sum(a, b):
    """The rounded sum of doubles and its error (Knuth)."""
    s = a + b
    v = s - a
    return s, (a - (s - v)) + (b - v)


def odd_sum(a, b):
    """a + b of doubles, rounded to odd: an inexact sum becomes the one of its two neighbours whose
    last bit is 1, so that rounding it once more, to fewer bits, is as rounding the exact sum."""
    s, error = two_sum(a, b)
    s, error = np.atleast_1d(s, error)
    bits = s.view(np.int64)
    moves = (error != 0) & np.isfinite(error) & (bits & 1 == 0)
    step = np.where((error > 0) == (s > 0), 1, -1)
    return np.where(moves, bits + step, bits).view(np.float64).reshape(np.broadcast(a, b).shape)


def fma(a, b, c):
    """a · b + c of float32 with one rounding. The product is exact in double."""
    product = np.multiply(a, b, dtype=np.float64)
    c = np.asarray(c, np.float64)
    s = np.asarray(product + c)
    # Rounding the rounded sum again is wrong only if it lies midway between two float32.
    # (For subnormal results, midway is elsewhere.)
    unsure = (s.view(np.int64) & MIDPOINT_MASK == MIDPOINT) | (np.abs(s) < SMALLEST_NORMAL) & (s != 0)
    if unsure.any():
        s = odd_sum(product, c)
    return s.astype(F)


def two_product(a, b):
    """The rounded product of doubles and its error (Dekker)."""
    def split(x):
        high = x * 134217729.0
        high = high - (high - x)
        return high, x - high
    p = a * b
    (ah, al), (bh, bl) = split(a), split(b)
    return p, ((ah * bh - p) + ah * bl + al * bh) + al * bl


def fma_double(a, b, c):
    """a · b + c of doubles with one rounding (Boldo and Melquiond), for products whose error is no
    subnormal number."""
    high, low = two_product(a, b)
    upper, lower = two_sum(c, low)
    top, rest = two_sum(high, upper)
    return top + odd_sum(rest, lower)


def horner(v, coefficients, fma=fma):
    q = coefficients[0]
    for coefficient in coefficients[1:]:
        q = fma(q, v, coefficient)
    return q


# Conventions

def canonical(x):
    """(1)"""
    return np.where(np.isnan(x), NAN, x)


def clamp(x, low, high):
    y = np.where(x < low, low, x)
    return np.where(y > high, high, y)


def with_sign(a, b):
    return np.copysign(a, b)


def bits(x):
    x = np.asarray(x)
    return x.view(f'u{x.dtype.itemsize}')


# Quantization parameters

def decode(codes, scale, zero_point):
    """(2)"""
    return F(scale) * (codes.astype(np.int32) - zero_point).astype(F)


def encode(r, scale, zero_point, element):
    """(3), (4)"""
    low, high = CODE_RANGES[element]
    y = np.rint(r * (F(1) / F(scale))) + np.asarray(zero_point).astype(F)
    y = np.where(y > low, y, F(low))
    y = np.where(y < high, y, F(high))
    return y.astype({-128: np.int8, 0: np.uint8, -32768: np.int16}[low])


def number(elements, quantization):
    """(5)"""
    if quantization is None:
        return elements
    return decode(elements, quantization.scale, quantization.zero_point)


def store(r, output):
    """(6), for an output with `element` and `quantization`."""
    if output.quantization is None:
        assert output.element == FLOAT32 and r.dtype == F
        return r
    return encode(r, output.quantization.scale, output.quantization.zero_point, output.element)


# The tree

OPERATIONS = {
    'sum': (lambda a, b: a + b, 0),
    'product': (lambda a, b: a * b, 1),
    'maximum': (lambda a, b: np.where(b > a, b, a), -np.inf),
    'minimum': (lambda a, b: np.where(b < a, b, a), np.inf),
}


def tree(kind, x):
    """(7), (8) along the last axis. Elements that are e₀ change no lane, so that the last step can be
    filled with them."""
    combine, neutral = OPERATIONS[kind]
    n = x.shape[-1]
    steps = -(-n // 16)
    filled = np.full(x.shape[:-1] + (steps * 16,), neutral, F)
    filled[..., :n] = x
    lanes = np.full(x.shape[:-1] + (16,), neutral, F)
    for step in range(steps):
        lanes = combine(lanes, filled[..., step * 16:step * 16 + 16])
    for width in 8, 4, 2, 1:
        lanes = combine(lanes[..., :width], lanes[..., width:2 * width])
    return lanes[..., 0]


# Elementary functions

LOG2_E, = constants('0x1.715476p+0')
LN2_HIGH, = constants('0x1.62e43p-1')
LN2_LOW, = constants('0x1.05c61p-29')
ROUNDER, = constants('0x1.8p23')
EXPONENTIAL = constants('0x1.a032cp-13 0x1.6d7226p-10 0x1.11118ap-7 0x1.5554b2p-5 0x1.555554p-3 0.5')
LOGARITHM = constants(
    '-0x1.38c7eep-4 0x1.056632p-3 -0x1.0d86fep-3 0x1.22d8cep-3 -0x1.5471f8p-3 0x1.99a014p-3',
    '-0x1.000228p-2 0x1.555554p-2 -0.5')
TANH = constants(
    '0x1.18e1c4p-9 -0x1.0bf4f6p-7 0x1.638b56p-6 -0x1.b9ee9p-5 0x1.11106p-3 -0x1.555554p-2')
ERF = constants(
    '0x1.5cd4aap-14 -0x1.aa3f2cp-11 0x1.54c7f4p-8 -0x1.b80e9p-6 0x1.ce2e0ap-4 -0x1.812742p-2',
    '0x1.06eba8p-3')
ERF_TAIL = constants(
    '-0x1.78dd8ep-17 0x1.527c6ap-12 -0x1.dd6cd8p-9 0x1.85515ep-6 -0x1.b32574p-4 -0x1.45328ep-1',
    '-0x1.0778dcp-3')


def power_of_two(n):
    """fromBits(n << 23) for exponents n as they are stored."""
    return (n << 23).astype(np.int32).view(F)


def exponential_parts(x):
    """(19)"""
    h = fma(x, LOG2_E, ROUNDER)
    w = h - ROUNDER
    n = bits(h).astype(np.int64) - 0x4B400000
    r = fma(w, -LN2_HIGH, x)
    r = fma(w, LN2_LOW, r)
    q = horner(r, EXPONENTIAL)
    return fma(r * r, q, r), np.where(np.isnan(x), 0, n)


def exp(x):
    """(20)"""
    p, n = exponential_parts(clamp(x, F(-104), F(89)))
    k = n >> 1
    return ((p + F(1)) * power_of_two(k + 127)) * power_of_two(n - k + 127)


def expm1(x):
    """(21)"""
    p, n = exponential_parts(clamp(x, F(-30), F(89)))
    g = power_of_two(n + 126)
    return fma(g, p, g - F(0.5)) * F(2)


def log(x):
    """(22)"""
    small = x < F(SMALLEST_NORMAL)
    u = np.where(small, x * F(1 << 23), x)
    b = bits(u).view(np.int32).astype(np.int64)
    e = (b - 0x3F3504F3) >> 23
    f = (b - (e << 23)).astype(np.int32).view(F) - F(1)
    exponent = np.where(small, e - 23, e).astype(F)
    l = fma(exponent, -LN2_LOW, (f * f) * horner(f, LOGARITHM))
    result = fma(exponent, LN2_HIGH, f + l)
    result = np.where(x < np.inf, result, x)
    result = np.where(x < 0, NAN, result)
    return np.where(x == 0, F(-np.inf), result)


def tanh(x):
    """(23)"""
    a = np.abs(x)
    s = x * x
    near = fma(s * horner(s, TANH), x, x)
    return np.where(a < F(0.625), near, with_sign(F(1) - F(2) / (exp(a + a) + F(1)), x))


def erf(x):
    """(24)"""
    a = np.abs(x)
    near = fma(horner(x * x, ERF), x, x)
    c = np.where(a > F(4), F(4), a)
    q = horner(c, ERF_TAIL)
    return np.where(a < F(0.921875), near, with_sign(F(1) - exp(fma(q, c, -c)), x))


def sigmoid(x):
    """(25)"""
    z = exp(-np.abs(x))
    return np.where(x < 0, z, F(1)) / (z + F(1))


def softplus(x):
    """(26)"""
    z = exp(-np.abs(x))
    u = z + F(1)
    return np.where(x > 0, x, F(0)) + (log(u) + (z - (u - F(1))) / u)


def mish(x):
    """(27)"""
    e = exp(np.where(x > F(20), F(20), x))
    n = e * (e + F(2))
    return x * (n / (n + F(2)))


# Sine and cosine

D = np.float64
TWO_OVER_PI, = constants('0x1.45f306dc9c883p-1', type=D)
DOUBLE_ROUNDER, = constants('0x1.8p52', type=D)
HALF_PI, HALF_PI_LOW = constants('0x1.921fb54442d18p+0 0x1.1a62633145c07p-54', type=D)
SINE = constants('-0x1.a96464e94d9a3p-26 0x1.71d7763a7e41ap-19 -0x1.a019f94e22e3ep-13',
                   '0x1.1111110c99a6ep-7 -0x1.555555555237fp-3', type=D)
COSINE = constants('-0x1.23d5fe7adb12dp-22 0x1.a00f069411aa3p-16 -0x1.6c16b3ec02121p-10',
                     '0x1.55555546d6f45p-5 -0x1.ffffffffebc87p-2', type=D)
TWO_OVER_PI_WORDS = [0xA2F9836E, 0x4E441529, 0xFC2757D1, 0xF534DDC0,
                     0xDB629599, 0x3C439041, 0xFE5163AB, 0xDEBBC561]


def reduced(x):
    """(28): k and r."""
    x = x.astype(D)
    h = fma_double(x, TWO_OVER_PI, DOUBLE_ROUNDER)
    w = h - DOUBLE_ROUNDER
    r = fma_double(w, -HALF_PI, x)
    r = fma_double(w, -HALF_PI_LOW, r)
    return bits(h).astype(np.int64), r


def reduced_large(x):
    """(29) for one float32."""
    mask = (1 << 64) - 1
    pattern = int(bits(x))
    exponent, fraction = pattern >> 23 & 255, pattern & 0x7FFFFF
    j, t = divmod(exponent - 152, 32)
    s = fraction + 0x800000
    high = TWO_OVER_PI_WORDS[j] << 32 | TWO_OVER_PI_WORDS[j + 1]
    low = TWO_OVER_PI_WORDS[j + 2] << 32 | TWO_OVER_PI_WORDS[j + 3]
    window = (high << t) & mask | low >> (64 - t)
    rest = ((low << t) & mask) >> 32
    f = (s * window + (s * rest >> 32)) & mask
    k = ((f + 0x2000000000000000) & mask) >> 62
    quarter = np.array((f << 2) & mask, np.uint64).view(np.int64)[()]
    r = (D(quarter) * D(2.0 ** -64)) * HALF_PI
    return (-k, -r) if pattern >> 31 else (k, r)


def sine_and_cosine(x):
    """(30), in double."""
    x = np.atleast_1d(x)
    large = np.isfinite(x) & (np.abs(x) >= F(2.0 ** 30))
    k, r = reduced(np.where(large, F(0), x))
    for index in zip(*np.nonzero(large)):
        k[index], r[index] = reduced_large(x[index])
    s = r * r
    p = horner(s, SINE, fma_double)
    sine = fma_double(p * s, r, r)
    p = horner(s, COSINE, fma_double)
    cosine = fma_double(p, s, D(1))
    k = k % 4
    return (np.choose(k, [sine, cosine, -sine, -cosine]), np.choose(k, [cosine, -sine, -cosine, sine]))


def of_angle(choose):
    def function(x):
        sine, cosine = sine_and_cosine(x)
        return choose(sine, cosine).astype(F).reshape(np.shape(x))
    return function


# Functions of one number

HARD_SWISH_SLOPE, HALF_ROOT, TANH_CUBE, TANH_SCALE = constants(
    '0x1.555556p-3 0x1.6a09e6p-1 0x1.6e4e26p-5 0x1.988454p-1')
ONE = {
    'relu': lambda x: np.where(x < 0, F(0), x),
    'clip': clamp,
    'leakyRelu': lambda x, slope: np.where(x < 0, x * slope, x),
    'thresholdedRelu': lambda x, threshold: np.where(x <= threshold, F(0), x),
    'elu': lambda x, alpha: np.where(x > 0, x, expm1(x) * alpha),
    'selu': lambda x, alpha, gamma: np.where(x > 0, x, expm1(x) * alpha) * gamma,
    'celu': lambda x, alpha: np.where(x > 0, x, expm1(x / alpha) * alpha),
    'hardSigmoid': lambda x, alpha, beta: clamp(x * alpha + beta, F(0), F(1)),
    'hardSwish': lambda x: x * clamp(x * HARD_SWISH_SLOPE + F(0.5), F(0), F(1)),
    'sigmoid': sigmoid,
    'silu': lambda x: x * sigmoid(x),
    'tanh': tanh,
    'erf': erf,
    'gelu': lambda x: (x * F(0.5)) * (erf(x * HALF_ROOT) + F(1)),
    'geluTanh': lambda x: (x * F(0.5)) * (tanh((((x * x) * x) * TANH_CUBE + x) * TANH_SCALE) + F(1)),
    'softplus': softplus,
    'softsign': lambda x: x / (np.abs(x) + F(1)),
    'mish': mish,
    'exponential': exp,
    'logarithm': log,
    'squareRoot': np.sqrt,
    'reciprocal': lambda x: F(1) / x,
    'square': lambda x: x * x,
    'absolute': np.abs,
    'negate': lambda x: -x,
    'sign': lambda x: np.where(x > 0, F(1), np.where(x < 0, F(-1), np.where(x == 0, F(0), x))),
    'floor': np.floor,
    'ceiling': np.ceil,
    'round': np.rint,
    'sine': of_angle(lambda sine, cosine: sine),
    'cosine': of_angle(lambda sine, cosine: cosine),
    'tangent': of_angle(lambda sine, cosine: sine / cosine),
    'affine': lambda x, scale, offset: x * scale + offset,
}


def apply(function, x):
    """(18); x itself without a function."""
    if function is None:
        return x
    result = ONE[function.name](x, *(F(parameter) for parameter in function.parameters))
    assert result.dtype == F
    return canonical(result)


# Functions of two numbers

LOG2 = constants('0x1.f19853c3a40b4p-3 0x1.0bb6f74fd3502p-2 0x1.484fb23a291edp-2 0x1.a617565ee8124p-2',
                   '0x1.2776c516c4f58p-1 0x1.ec709dc39c78cp-1 0x1.71547652b8301p+1', type=D)
EXP2 = constants('0x1.b418b487b8c46p-24 0x1.63ee56b2c0e40p-20 0x1.ffcdf92a975f6p-17',
                   '0x1.43088f833280dp-13 0x1.5d87fda16e7cfp-10 0x1.3b2ab72a26dd9p-7',
                   '0x1.c6b08d70c7933p-5 0x1.ebfbdff81570ep-3 0x1.62e42fefa377bp-1 1', type=D)


def power(x, y):
    """(32)"""
    x, y = np.atleast_1d(*np.broadcast_arrays(x, y))
    half = y * F(0.5)
    odd = np.floor(half) != half
    whole = np.floor(y) == y
    magnitude = power_magnitude(np.abs(x), y)
    result = np.where(whole & odd, with_sign(magnitude, x), magnitude)
    result = np.where((x < 0) & (x > -np.inf) & ~whole, NAN, result)
    result = np.where(np.isnan(x) | np.isnan(y), NAN, result)
    result = np.where(y == 2, x * x, result)
    return np.where((y == 0) | (x == 1), F(1), result)


def power_magnitude(x, y):
    """(33), (34)"""
    a = x.astype(D)
    pattern = bits(a)
    exponent = (pattern - np.uint64(0x3FE6A09E667F3BCD) + np.uint64(0x4000000000000000)) >> np.uint64(52)
    m = (pattern - ((exponent - np.uint64(1024)) << np.uint64(52))).view(D)
    e = (exponent + np.uint64(0x4330000000000000)).view(D) - D(float.fromhex('0x1.00000000004p52'))
    f = (m - 1) / (m + 1)
    l = fma_double(horner(f * f, LOG2, fma_double), f, e)
    l = np.where(a == 0, -np.inf, np.where(a == np.inf, np.inf, l))
    z = np.where(a == 1, D(0), y.astype(D) * l)
    z = np.where(z < -160, D(-160), z)
    z = np.where(z > 160, D(160), z)
    h = z + DOUBLE_ROUNDER
    r = z - (h - DOUBLE_ROUNDER)
    p = horner(r, EXP2, fma_double)
    scale = ((bits(h) - np.uint64(0x4338000000000000) + np.uint64(1023)) << np.uint64(52)).view(D)
    return (p * scale).astype(F)


TWO = {
    'add': lambda a, b: a + b,
    'subtract': lambda a, b: a - b,
    'multiply': lambda a, b: a * b,
    'divide': lambda a, b: a / b,
    'minimum': lambda a, b: np.where(b != b, b, np.where(b < a, b, a)),
    'maximum': lambda a, b: np.where(b != b, b, np.where(b > a, b, a)),
    'power': power,
    'remainder': np.fmod,
    'parametricRelu': lambda a, b: np.where(a < 0, a * b, a),
}
BINARY_NAMES = list(TWO)


def apply_two(name, a, b):
    """(31)"""
    result = np.asarray(TWO[name](a, b))
    assert result.dtype == F
    return canonical(result).reshape(np.broadcast(a, b).shape)


def integer_power(a, b):
    """aᵇ modulo 2ʷ, elementwise, of equal shapes."""
    base, exponent, result = a.copy(), np.where(b < 0, 0, b), np.ones_like(a)
    while exponent.any():
        result = np.where(exponent & 1, result * base, result)
        base, exponent = base * base, exponent >> 1
    parity = np.where(b & 1, a, np.ones_like(a))   # of 1 and −1
    negative = np.where(a == 1, a, np.where(a == -1, parity, np.zeros_like(a)))
    return np.where(b < 0, negative, result)


def truncated_quotient(a, b):
    """a / b truncated toward zero, of Python's integers or arrays; not for b = 0."""
    quotient = a // b
    return quotient + ((quotient * b != a) & ((a < 0) != (b < 0)))


def apply_two_integers(name, a, b):
    """(35). Division by 0 is the caller's to refuse."""
    a, b = np.broadcast_arrays(a, b)
    if name in ('add', 'subtract', 'multiply'):
        return TWO[name](a, b)
    if name == 'minimum':
        return np.minimum(a, b)
    if name == 'maximum':
        return np.maximum(a, b)
    safe = np.where(b == -1, np.ones_like(b), b)
    if name == 'divide':
        return np.where(b == -1, -a, truncated_quotient(a, safe))
    if name == 'remainder':
        return np.where(b == -1, np.zeros_like(a), np.mod(a, safe))
    assert name == 'power'
    return integer_power(a, b)
