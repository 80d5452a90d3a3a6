const settings = undefined;
export const port = settings.port;
