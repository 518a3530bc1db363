"""Who may ask: keys, limits, sign-in, and headers that hold a browser back.

headers: REPORT_POLICY
keys: make_key_command
rules: Access, access, check_form
sign_in: sign_in_blueprint
signing: forgiving
Within the room: counting
"""
