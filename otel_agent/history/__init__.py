"""One typed query over what was stored, whichever store it is: `model` is the contract, the other modules are engines."""
