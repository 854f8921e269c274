/* The category that x numbers, from 0 to n − 1, or −1 if it numbers none. */
INLINE int64_t NAME(category)(real x, int64_t n)
{
    if (!(x >= 0 && x < (real)n)) return -1;
    const int64_t i = (int64_t)x;
    return (real)i == x && i < n ? i : -1;
}
