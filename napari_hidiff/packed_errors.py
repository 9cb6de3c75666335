"""Why a refiner cannot run packed, in one clear line."""


class Unpackable(Exception):
    """This refiner, or this machine, is not for the packed engine; torch runs it instead."""
