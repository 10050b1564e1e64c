#ifndef SAM2RT_EXPORT_H
#define SAM2RT_EXPORT_H

#if defined(_WIN32) && defined(SAM2RT_SHARED)
#  ifdef SAM2RT_BUILDING
#    define SAM2RT_API __declspec(dllexport)
#  else
#    define SAM2RT_API __declspec(dllimport)
#  endif
#elif defined(__GNUC__)
#  define SAM2RT_API __attribute__((visibility("default")))
#  define SAM2RT_HIDDEN __attribute__((visibility("hidden")))
#else
#  define SAM2RT_API
#endif
#ifndef SAM2RT_HIDDEN
#  define SAM2RT_HIDDEN
#endif

#endif
