"""Tables and charts of one run or many, as a page, Markdown or CSV."""
