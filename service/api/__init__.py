"""For programs: the routes, what they take and give, and their OpenAPI document.

classify: api_blueprint, status_of
feedback: feedback_blueprint
health: monitoring_blueprint
openapi: document
reload: admin_blueprint, reload
uploads: BadUpload, MemoryRequest, images_in, patient_in
Within the room: answers, operations
"""
