def page(profile, previous, effects, version):
    return ""
