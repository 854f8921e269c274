/* counter ← counter + by */
ARGUMENTS(advance, SERIAL, int64_t by; int64_t *counter;)

OPERATION(advance) { *a->counter += a->by; }
