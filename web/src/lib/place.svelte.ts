// The route that is shown, and the way to another.

import { type Route, href, parse } from './route';

class Place {
  route = $state.raw<Route>(parse(location.hash));

  start(): () => void {
    const follow = () => (this.route = parse(location.hash));
    addEventListener('hashchange', follow);
    return () => removeEventListener('hashchange', follow);
  }

  go(route: Route): void {
    location.hash = href(route);
  }
}

export const place = new Place();
