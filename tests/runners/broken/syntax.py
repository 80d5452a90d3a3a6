def message(:
    pass
