// NVML's functions, as its header declares them, over a device that is idle at first, and busy and slowed down from the
// fourth reading on. It tells no temperature.
#include <string.h>
typedef struct { unsigned gpu, memory; } Utilization;
static int begun, device, readings;
extern "C" {
int nvmlInit_v2(void) { begun = 1; return 0; }
int nvmlDeviceGetHandleByPciBusId_v2(const char* bus, void** found) {
    if (!begun) return 1;
    if (!strcmp(bus, "0000:99:00.0")) return 6;  // no such device
    *found = &device;
    return 0;
}
int nvmlDeviceGetUtilizationRates(void* of, Utilization* use) {
    if (of != &device) return 2;
    use->gpu = ++readings > 3 ? 97 : 0;
    return 0;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(void* of, unsigned long long* why) {
    if (of != &device) return 2;
    *why = readings > 3 ? 0x4 | 0x2 : 0x1;
    return 0;
}
int nvmlDeviceGetClockInfo(void* of, int type, unsigned* megahertz) {
    if (of != &device || type != 1) return 2;
    *megahertz = readings > 3 ? 1755 : 345;
    return 0;
}
int nvmlDeviceGetPowerUsage(void* of, unsigned* milliwatts) {
    if (of != &device) return 2;
    *milliwatts = readings > 3 ? 690500 : 75000;
    return 0;
}
int nvmlDeviceGetUUID(void* of, char* text, unsigned size) {
    if (of != &device || size < 6) return 2;
    strcpy(text, "GPU-7");
    return 0;
}
int nvmlSystemGetDriverVersion(char* text, unsigned size) {
    if (size < 11) return 7;
    strcpy(text, "580.159.03");
    return 0;
}
}
