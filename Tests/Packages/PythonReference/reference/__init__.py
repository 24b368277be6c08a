"""A reader and an interpreter of .qm files, written from schema/qm-format.md and schema/arithmetic.md alone.

It shares no code with the package: whoever changes a text, or the package, learns here whether the
two still say the same. It is simple and slow, and needs NumPy and the standard library.

    from reference import Model
    outputs = Model(open('out.qm', 'rb').read()).run({'x': array})

Modules, in the order of the texts: `container` (sections, checksums), `structure` (values and nodes),
`layouts` (elements of constants), `descriptions` (names, metadata), `probes`, `rules` (what a program must
obey); `arithmetic` (rounding, functions of numbers) and the families of operations; `interpreter`.
"""

from .errors import Malformed, RunError, Unsupported
from .interpreter import Model
