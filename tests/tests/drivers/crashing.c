/* A Vulkan driver that dies as soon as it is asked for anything. */
#include <signal.h>

void *vk_icdGetInstanceProcAddr(void *instance, const char *name)
{
    (void)instance;
    (void)name;
    raise(SIGSEGV);
    return 0;
}

int vk_icdNegotiateLoaderICDInterfaceVersion(unsigned *version)
{
    (void)version;
    raise(SIGSEGV);
    return 0;
}
