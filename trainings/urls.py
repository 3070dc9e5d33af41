"""Addresses of the pages."""

from django.urls import path

from .views import (
    bulk,
    cache,
    catalog,
    checklist,
    preparing,
    rehearsal,
    saes,
    start,
    training,
    trainings,
)

urlpatterns = [
    path("", trainings.trainings, name="trainings"),
    path("trainings/fragments", trainings.fragments, name="fragments"),
    path("trainings/bulk", bulk.bulk, name="bulk"),
    path("trainings/new", start.new, name="new_training"),
    path("trainings/new/fields", start.fields, name="new_training_fields"),
    path("trainings/new/check", start.check, name="new_training_check"),
    path("trainings/new/measure", start.measure, name="measure"),
    path("trainings/new/measured/<uuid:rehearsal_id>", rehearsal.show, name="rehearsal"),
    path("trainings/<uuid:training_id>", training.training, name="training"),
    path("trainings/<uuid:training_id>/points", training.points, name="points"),
    path(
        "trainings/<uuid:training_id>/points.<str:kind>",
        training.export_points,
        name="export_points",
    ),
    path("trainings/<uuid:training_id>/log", training.log, name="log"),
    path(
        "trainings/<uuid:training_id>/hyperparameters",
        training.hyperparameters,
        name="hyperparameters",
    ),
    path("trainings/<uuid:training_id>/stop", training.stop, name="stop"),
    path("trainings/<uuid:training_id>/resume", training.resume, name="resume"),
    path("trainings/<uuid:training_id>/next", training.run_next, name="run_next"),
    path("trainings/<uuid:training_id>/retry", training.retry, name="retry"),
    path(
        "trainings/<uuid:training_id>/checkpoints/<uuid:checkpoint_id>/pin",
        training.pin,
        name="pin_checkpoint",
    ),
    path("trainings/<uuid:training_id>/delete", training.delete, name="delete"),
    path("demo/start", trainings.start_demo, name="start_demo"),
    path("checklist", checklist.show, name="checklist"),
    path("preparing", preparing.show, name="preparing"),
    path("models", catalog.models, name="models"),
    path("datasets", catalog.datasets, name="datasets"),
    path("tokenizations", catalog.tokenize, name="tokenize"),
    path("<slug:kind>/<uuid:pk>/prepare-again", catalog.prepare_again, name="prepare_again"),
    path("<slug:kind>/<uuid:pk>/delete", catalog.delete, name="delete_row"),
    path("saes", saes.saes, name="saes"),
    path("cache", cache.cache, name="cache"),
    path("cache/clear", cache.clear, name="clear_cache"),
    path("cache/<str:entry_id>/remove", cache.remove, name="remove_cached"),
]
