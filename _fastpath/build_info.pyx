# cython: language_level=3
"""Records the versions the compiled part was built with, and refuses to run with others.

picows has no public name for its check of a handshake, and it uses aiofastnet. Either may change with any release, so
both must have exactly the versions of the build.
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
    """Compare the installed versions with those of the build. Errors: ImportError if picows or aiofastnet differs."""
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
