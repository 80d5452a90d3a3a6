"""The component: CPython, the SDK, and as much of the standard library as is reasonable. The agent comes later, as text."""

import componentize_py_runtime

from bulkhead import image, lifecycle, rehearsal, sockets, stdlib, unicode
from bulkhead.lifecycle import Lifecycle  # noqa: F401  (what the component exports)

unicode.install(componentize_py_runtime)
sockets.install()
stdlib.collect()
lifecycle.prepare()
rehearsal.rehearse()
image.seal()
