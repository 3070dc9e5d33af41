"""Every setting, from the environment; see the table in docs/operations.md.

A bad value stops the start with a sentence that names the variable.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import django_stubs_ext
import environ
from django.core.exceptions import ImproperlyConfigured
from django.core.management.utils import get_random_secret_key

from .redis_server import socket_path

# Lets generic classes such as ModelAdmin[Training] be written as they are typed.
django_stubs_ext.monkeypatch()
env = environ.Env()
BASE_DIR = Path(__file__).resolve().parent.parent


def _number(name: str, default: int, low: int, high: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal() or not low <= int(text) <= high:
        raise ImproperlyConfigured(f"{name} must be a whole number from {low} to {high}: {text!r}")
    return int(text)


def _choice(name: str, choices: tuple[str, ...]) -> str:
    """One of these; the first where nothing is said."""
    text = os.environ.get(name) or choices[0]
    if text not in choices:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(choices)}: {text!r}")
    return text


def _address(name: str) -> str:
    """An http(s) address; empty where nothing is said."""
    text = os.environ.get(name, "").strip()
    try:
        parts = urlsplit(text)
        fine = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        fine = False
    if text and not fine:
        raise ImproperlyConfigured(f"{name} must be an address that begins with http(s)://")
    return text


def _store(name: str) -> str:
    """An fsspec address; empty where nothing is said."""
    text = os.environ.get(name, "").strip().rstrip("/")
    protocol, _, rest = text.partition("://")
    if text and not (protocol and rest.strip("/")):
        raise ImproperlyConfigured(
            f"{name} must be an address as s3://bucket/prefix or file:///mnt/share/studio"
        )
    return text


def _secret_key() -> str:
    """The key from the environment, or one made at the first start and kept beside the data."""
    given = os.environ.get("SAESTUDIO_SECRET_KEY", "")
    if given:
        return given
    path = HOME / "secret_key"
    if not path.exists():
        HOME.mkdir(parents=True, exist_ok=True)
        # Written whole before it gets its name, so that two first starts agree on one key.
        draft = path.with_suffix(f".{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_text(get_random_secret_key(), encoding="utf-8")
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text(encoding="utf-8").strip()


def _databases() -> dict[str, Any]:
    if not os.environ.get("DATABASE_URL"):
        return {
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": HOME / "db.sqlite3",
                # A file as well: in memory a second connection finds a lock an error at once.
                "TEST": {"NAME": HOME / "test.sqlite3"},
                "OPTIONS": {
                    # Several processes write: without IMMEDIATE a lock upgrade fails at once.
                    "transaction_mode": "IMMEDIATE",
                    "timeout": 20,
                    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
                },
            }
        }
    try:
        database = env.db("DATABASE_URL")
    except (environ.ImproperlyConfigured, ValueError) as error:
        # Not what was wrong: that would show a piece of the password.
        raise ImproperlyConfigured(
            "DATABASE_URL cannot be read: write postgres://user:password@host/name, and special "
            f"characters of the password percent-encoded ({type(error).__name__})."
        ) from None
    if not database.get("ENGINE"):
        raise ImproperlyConfigured(
            "DATABASE_URL must be an address as postgres://user:password@host/name."
        )
    if database["ENGINE"].endswith("postgresql"):
        # A thread per request under ASGI: a pool, and no connection kept by a thread.
        database["CONN_MAX_AGE"] = 0
        # The pool hands out no connection that broke while it lay there.
        database["CONN_HEALTH_CHECKS"] = True
        # A supervisor must not wait for a lock or a lost host for longer than its child for it.
        waits = {"connect_timeout": 5, "tcp_user_timeout": 15_000, "options": "-c lock_timeout=10s"}
        pool = {"min_size": 1, "max_size": 8, "timeout": 5}
        database["OPTIONS"] = {**waits, "pool": pool, **database.get("OPTIONS", {})}
    return {"default": database}


HOME = Path(os.environ.get("SAESTUDIO_HOME", BASE_DIR / "var")).expanduser().resolve()
# Where all hosts keep what they make; empty where they share the data folder.
STORE = _store("SAESTUDIO_STORE")
SECRET_KEY = _secret_key()
DEBUG = env.bool("SAESTUDIO_DEBUG", default=False)
BIND = os.environ.get("SAESTUDIO_BIND", "127.0.0.1")
PORT = _number("SAESTUDIO_PORT", 8000, 1, 65535)
ALLOWED_HOSTS: list[str] = env.list(
    "SAESTUDIO_ALLOWED_HOSTS", default=["127.0.0.1", "localhost", "[::1]"]
)
HTTPS = env.bool("SAESTUDIO_HTTPS", default=False)
# Folders from which a user may name local models and texts.
ALLOWED_ROOTS = [
    Path(root).expanduser().resolve()
    for root in env.list("SAESTUDIO_ALLOWED_ROOTS", default=[str(HOME / "imports")])
]
# How many trainings run at once: empty means one per GPU, or one where there is none.
TRAINERS = _number("SAESTUDIO_TRAINERS", 0, 0, 64)
# A trainer with several may take a run that needs several.
GPUS_PER_TRAINER = _number("SAESTUDIO_GPUS_PER_TRAINER", 1, 1, 64)
# The name of this worker among those of its host; a service manager may give it.
SLOT = os.environ.get("SAESTUDIO_SLOT", "")
# A training that gives no sign of life for so long is ended and resumed.
HUNG_SECONDS = _number("SAESTUDIO_HUNG_SECONDS", 900, 10, 1_000_000)
# Whether the SAE of a completed training is evaluated in the model, a job of some minutes.
EVALUATE = env.bool("SAESTUDIO_EVALUATE", default=True)
# Bytes of activations kept for later trainings; 0 keeps none.
CACHE_LIMIT = _number("SAESTUDIO_CACHE_GB", 50, 0, 1_000_000) * 10**9
# Calls of the API that one user may make in a minute, to each web server.
API_CALLS = _number("SAESTUDIO_API_CALLS", 1200, 1, 1_000_000)
# Told when a training ends; the secret signs what is sent.
WEBHOOK_URL = _address("SAESTUDIO_WEBHOOK_URL")
WEBHOOK_SECRET = os.environ.get("SAESTUDIO_WEBHOOK_SECRET", "")
# Where users reach the studio, for links outside of it.
PUBLIC_URL = _address("SAESTUDIO_URL").rstrip("/")

INSTALLED_APPS = [
    "daphne",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "servestatic.runserver_nostatic",
    "django.contrib.staticfiles",
    "channels",
    "django_htmx",
    "axes",
    "ninja",
    "saestudio",
    "trainings",
    "templates_app",
]

MIDDLEWARE = [
    "saestudio.streaming.NoBodyForHead",
    "saestudio.errors.ApiErrors",
    "saestudio.errors.FilesOnTheirWay",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "servestatic.middleware.ServeStaticMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "saestudio.access.middleware.BearerToken",
    "saestudio.access.middleware.LoginRequired",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "saestudio.urls"
ASGI_APPLICATION = "saestudio.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

DATABASES = _databases()
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Redis carries nudges and live events; nothing in it is the truth.
REDIS_FOLDER = HOME / "redis"
REDIS_URL = os.environ.get("REDIS_URL") or f"unix://{socket_path(REDIS_FOLDER)}"
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        # redis-py 8 would end every idle consumer after its 5 s socket timeout.
        "CONFIG": {"hosts": [{"address": REDIS_URL, "socket_timeout": None}]},
    }
}

AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "saestudio.access.roles.Roles",
]
# Of one user from one address. Behind a proxy all share one, and a guesser shuts that user out.
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_RESET_ON_SUCCESS = True
AXES_LOCKOUT_TEMPLATE = "registration/locked.html"
AXES_DISABLE_ACCESS_LOG = True
AXES_VERBOSE = False

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "trainings"
LOGOUT_REDIRECT_URL = "login"
SESSION_COOKIE_NAME = "saestudio_session"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
CSRF_COOKIE_NAME = "saestudio_csrf"
SECURE_SSL_REDIRECT = HTTPS
# TLS ends at the proxy, which says so; those that ask whether this process lives speak none.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
X_FRAME_OPTIONS = "DENY"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
        "manifest-src": ["'self'"],
    }
}

LANGUAGE_CODE = "en"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = HOME / "static"
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_048_576

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"()": "trainings.logs.Line"},
        "json": {"()": "trainings.logs.JsonLine"},
    },
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": _choice("SAESTUDIO_LOG_FORMAT", ("line", "json")),
        }
    },
    # It writes whole addresses, in which a webhook may have its secret.
    "loggers": {"httpx": {"level": "WARNING"}, "axes": {"level": "WARNING"}},
    "root": {
        "handlers": ["stderr"],
        "level": os.environ.get("SAESTUDIO_LOG_LEVEL", "INFO").upper(),
    },
}
