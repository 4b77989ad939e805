"""The frozen language model: loading, LoRA, and the tap between its layers."""

import logging

# Wherever bitsandbytes is installed peft imports it, and on a CPU it then asks for a package that nothing
# here needs. Said here, before any module of this package imports peft.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
