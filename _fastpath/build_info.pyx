# cython: language_level=3
"""What the compiled part was built from, and the guard that refuses to run it beside anything else.

picows' check of a handshake has no public name, and aiofastnet is below it. Either may change it with any release, so the
versions themselves must be those that this was built and tested with.
"""

from importlib.metadata import PackageNotFoundError, version as installed_version


cdef extern from *:
    """
    #if !defined(KOKO_VERSION) || !defined(KOKO_PICOWS) || !defined(KOKO_AIOFASTNET)
    #error "build through setup.py: it defines KOKO_VERSION, KOKO_PICOWS and KOKO_AIOFASTNET"
    #endif
    """
    const char* KOKO_VERSION
    const char* KOKO_PICOWS
    const char* KOKO_AIOFASTNET


VERSION = KOKO_VERSION.decode("ascii")
BUILT_AGAINST = {"picows": KOKO_PICOWS.decode("ascii"), "aiofastnet": KOKO_AIOFASTNET.decode("ascii")}


def check_abi():
    """Errors: ImportError when picows or aiofastnet is not the very version this was built beside."""
    for package, built in BUILT_AGAINST.items():
        try:
            found = installed_version(package)
        except PackageNotFoundError:
            found = "none"
        if found != built:
            raise ImportError(
                f"the compiled part of koko-presence was built against {package} {built}, found {found}:"
                " reinstall koko-presence (in a checkout: make setup)"
            )
