"""HTTP and WebSocket, served by one Daphne process."""

import os
from typing import Any, cast

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "saestudio.settings")
http = get_asgi_application()

from channels.auth import AuthMiddlewareStack  # noqa: E402 (Django first)
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.urls import path  # noqa: E402

from trainings.consumers import TrainingConsumer, TrainingsConsumer  # noqa: E402

from .access.exposure import Exposure  # noqa: E402
from .access.sockets import TokenAuth  # noqa: E402
from .origin import SameOrigin  # noqa: E402

# Django's path() is typed for views; Channels routes consumers with it all the same.
routes: list[Any] = [
    path("ws/trainings", cast(Any, TrainingsConsumer.as_asgi())),
    path("ws/training/<uuid:training_id>", cast(Any, TrainingConsumer.as_asgi())),
]
websocket = URLRouter(routes)
application = Exposure(
    ProtocolTypeRouter(
        {"http": http, "websocket": SameOrigin(AuthMiddlewareStack(TokenAuth(websocket)))}
    )
)
