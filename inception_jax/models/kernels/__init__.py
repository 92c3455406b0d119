"""Operations with several forms: the plain one and those for particular devices."""
