/* 1/√x as √x/x: NaN where a variance has overflowed. 0 there would hide it behind finite outputs. */
INLINE real NAME(inverse_root)(real x) { return SQRT(x) / x; }
