"""What people look at: tables, pictures and pages, drawn from a stored run alone.

No number is made here: what a view lacks belongs into the record, by way of `policyscope.metrics`.
Nothing is asked of a policy, a dataset or a simulator. Text is escaped, and English here is a key
of ``web/zh.json``.
"""
