"""The component: CPython, the SDK, and as much of the standard library as is reasonable. The agent comes later, as text."""

from bulkhead import image, lifecycle, rehearsal, sockets, stdlib
from bulkhead.lifecycle import Lifecycle  # noqa: F401  (what the component exports)

sockets.install()
stdlib.collect()
lifecycle.prepare()
rehearsal.rehearse()
image.seal()
