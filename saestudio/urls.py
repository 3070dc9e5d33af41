"""Every address of the studio."""

from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import URLPattern, URLResolver, include, path

from .access import account
from .access.links import use_login_link
from .access.roles import viewers_may
from .api import api
from .health import healthz, metrics, readyz

urlpatterns: list[URLPattern | URLResolver] = [
    path("", include("templates_app.urls")),
    path("", include("trainings.urls")),
    path("api/v1/", api.urls),
    path("login", viewers_may(LoginView.as_view()), name="login"),
    path("login/link/<str:token>", use_login_link, name="login_link"),
    path("logout", viewers_may(LogoutView.as_view()), name="logout"),
    path("account", account.account, name="account"),
    path("account/password", account.password, name="password"),
    path("account/tokens/<uuid:pk>/revoke", account.revoke, name="revoke_token"),
    path("admin/", admin.site.urls),
    path("healthz", healthz, name="healthz"),
    path("readyz", readyz, name="readyz"),
    path("metrics", metrics, name="metrics"),
]

handler403 = "saestudio.errors.permission_denied"
handler500 = "saestudio.errors.server_error"
