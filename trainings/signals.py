"""What the trainings tell other apps, which they do not know."""

from django.dispatch import Signal

# A training was started in the dialog. Arguments: `training` and `form`, the dialog's fields (a
# QueryDict).
started = Signal()
