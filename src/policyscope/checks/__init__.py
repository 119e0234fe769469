"""What would make the numbers meaningless: in the files, in the predictions, in the scores.

Each check returns findings (`policyscope.errors.Finding`) with an expected, a found and a fix; it
neither prints nor stops anything: `policyscope.commands.session` refuses. A file that can't be
read at all is no finding, but an error of whoever reads it.
"""
