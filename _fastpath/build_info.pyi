VERSION: str
BUILT_AGAINST: dict[str, str]

def check_abi() -> None: ...
