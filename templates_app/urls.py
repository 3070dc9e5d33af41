"""Addresses of the template pages."""

from django.urls import path

from . import views

urlpatterns = [
    path("templates", views.templates, name="templates"),
    path("templates/use", views.use, name="use_template"),
    path("templates/keep", views.keep, name="keep_template"),
    path("templates/export", views.export, name="export_templates"),
    path("templates/import", views.import_, name="import_templates"),
    path("templates/<uuid:pk>/edit", views.edit, name="edit_template"),
    path("templates/<uuid:pk>/favorite", views.favorite, name="favorite_template"),
    path("templates/<uuid:pk>/duplicate", views.duplicate, name="duplicate_template"),
    path("templates/<uuid:pk>/delete", views.delete, name="delete_template"),
]
