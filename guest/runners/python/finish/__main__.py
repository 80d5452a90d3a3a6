"""Does to a component of componentize-py what that leaves to do: `python3 finish COMPONENT`."""

import sys
from pathlib import Path

import free_lists
import immortal
import wasm


def main(path):
    try:
        component = path.read_bytes()
        for change in free_lists.change, immortal.change:
            component = wasm.changed(component, change)
        path.write_bytes(component)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {path}: {error}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
