"""Operations that have, beside their plain form, faster ones or a gradient written by hand."""
