"""The fused CPU engine: any declared cell as machine code, built in memory by LLVM."""
