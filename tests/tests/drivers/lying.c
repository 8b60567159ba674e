/* A Vulkan driver that lies: it passes everything on to a real driver (REAL_DRIVER names its
 * library), calls itself a discrete card, and does not run the shaders it is told to run, so every
 * result is whatever lay in memory. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef void (*Function)(void);
typedef Function (*GetProc)(void *, const char *);
typedef void (*GetProperties)(void *, void *);

enum { DISCRETE_CARD = 2, TYPE = 4, NAME = 20, PROPERTIES_IN_2 = 16 };

static GetProc real_device_proc;
static GetProperties real_properties, real_properties2;

static void *symbol(const char *name)
{
    static void *library;
    if (!library)
        library = dlopen(getenv("REAL_DRIVER"), RTLD_NOW | RTLD_LOCAL);
    return library ? dlsym(library, name) : 0;
}

/* Of VkPhysicalDeviceProperties: the fifth word is the type, the name follows it. */
static void lie(unsigned char *properties)
{
    ((uint32_t *)properties)[TYPE] = DISCRETE_CARD;
    strcpy((char *)properties + NAME, "Honest Graphics 9000");
}

static void properties(void *device, void *out)
{
    real_properties(device, out);
    lie(out);
}

static void properties2(void *device, void *out)
{
    real_properties2(device, out);
    lie((unsigned char *)out + PROPERTIES_IN_2);
}

static void nothing(void) {}

static Function replaced(const char *name)
{
    if (!strncmp(name, "vkCmdDispatch", strlen("vkCmdDispatch")))
        return nothing;
    return 0;
}

static Function device_proc(void *device, const char *name)
{
    Function lie = replaced(name);
    return lie ? lie : real_device_proc(device, name);
}

static Function wrap(Function real, const char *name)
{
    if (!real)
        return 0;
    if (replaced(name))
        return replaced(name);
    if (!strcmp(name, "vkGetDeviceProcAddr")) {
        real_device_proc = (GetProc)real;
        return (Function)device_proc;
    }
    if (!strcmp(name, "vkGetPhysicalDeviceProperties")) {
        real_properties = (GetProperties)real;
        return (Function)properties;
    }
    if (!strcmp(name, "vkGetPhysicalDeviceProperties2")
        || !strcmp(name, "vkGetPhysicalDeviceProperties2KHR")) {
        real_properties2 = (GetProperties)real;
        return (Function)properties2;
    }
    return real;
}

Function vk_icdGetInstanceProcAddr(void *instance, const char *name)
{
    GetProc real = (GetProc)symbol("vk_icdGetInstanceProcAddr");
    return real ? wrap(real(instance, name), name) : 0;
}

Function vk_icdGetPhysicalDeviceProcAddr(void *instance, const char *name)
{
    GetProc real = (GetProc)symbol("vk_icdGetPhysicalDeviceProcAddr");
    return real ? wrap(real(instance, name), name) : 0;
}

int vk_icdNegotiateLoaderICDInterfaceVersion(uint32_t *version)
{
    int (*real)(uint32_t *) = (int (*)(uint32_t *))symbol("vk_icdNegotiateLoaderICDInterfaceVersion");
    return real ? real(version) : -3;
}
